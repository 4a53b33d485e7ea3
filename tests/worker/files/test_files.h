// A folder of its own for each test, and files in it.
#ifndef TESSERA_TESTS_WORKER_FILES_TEST_FILES_H_
#define TESSERA_TESTS_WORKER_FILES_TEST_FILES_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/status/status.h"
#include "worker/files/model_file.h"

namespace tessera::worker::testing {

// Removed with everything in it when destroyed.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "tessera-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TempFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::string Path(const std::string& name) const { return path_.string() + "/" + name; }
  std::string path() const { return path_.string(); }
  // Writes over a file of that name in place: emptying it first makes ext4 flush it to disk, which
  // thousands of bent files cannot afford.
  std::string Write(const std::string& name, const std::string& bytes) const {
    const std::string path = Path(name);
    const auto mode = std::filesystem::exists(path) ? std::ios::in | std::ios::out : std::ios::out;
    std::fstream out(path, mode | std::ios::binary);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    out.close();
    std::filesystem::resize_file(path, bytes.size());
    return path;
  }

 private:
  std::filesystem::path path_;
};

inline std::string ReadWhole(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << in.rdbuf();
  return bytes.str();
}

inline std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

// Opens and gives the error, one line naming the file; the test fails where it opens.
inline std::string OpenError(const std::string& path, LoadFormat format = LoadFormat::kAuto) {
  const auto model = OpenModel(path, format);
  EXPECT_FALSE(model.ok()) << path << " opened";
  const std::string message = MessageOf(model.status());
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  return message;
}

}  // namespace tessera::worker::testing

#endif  // TESSERA_TESTS_WORKER_FILES_TEST_FILES_H_
