#include "worker/comm/mpi_segments.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"

namespace tessera::worker {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kSegment = 4 << 20;

TEST(ChoosePlaceTest, TheUsualFolderWhereItHasRoom) {
  const auto place = ChoosePlace(12, kSegment, {"/dev/shm", 64 << 20}, Folder{"/tmp/s", 1 << 30});
  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(place->path, "/dev/shm");
  EXPECT_EQ(place->note, "");
}

TEST(ChoosePlaceTest, TheOtherOneAndANoteWhereItHasNot) {
  // Two segments alone would fit.
  const auto place = ChoosePlace(2, kSegment, {"/dev/shm", 8'400'000}, Folder{"/tmp/s", 1 << 30});
  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(place->path, "/tmp/s");
  EXPECT_THAT(place->note, HasSubstr("/dev/shm of "));
  EXPECT_THAT(place->note,
              HasSubstr(" has 8.4 MB free, 2 ranks want 8.9 MB for their messages: they go through "
                        "files in /tmp/s; shared memory would be faster (docker run "
                        "--shm-size=1g)"));
}

TEST(ChoosePlaceTest, NoRoomAnywhereIsAnErrorWithNumbers) {
  const auto place = ChoosePlace(2, kSegment, {"/dev/shm", 1'000'000}, Folder{"/tmp/s", 2'000'000});
  EXPECT_EQ(place.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(place.status().message()),
              HasSubstr(" has 1.0 MB free and /tmp/s 2.0 MB beyond what mpirun takes; 2 ranks want "
                        "8.9 MB for their messages (docker run --shm-size=1g)"));
  const auto only = ChoosePlace(2, kSegment, {"/mine", 0}, std::nullopt);
  EXPECT_THAT(std::string(only.status().message()), HasSubstr(" has 0.0 MB free; 2 ranks want"));
}

class PlaceSegmentsTest : public ::testing::Test {
 protected:
  // As mpirun would for a host with 1,000 ranks and segments of 2 GB.
  void SetUp() override {
    setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "1000", 1);
    setenv("OMPI_MCA_btl_vader_segment_size", "2000000000", 1);
  }
  void TearDown() override {
    for (const char* name : {"OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_MCA_btl_vader_segment_size",
                             "OMPI_MCA_btl_vader_backing_directory", "OMPI_MCA_btl",
                             "OMPI_MCA_pml"}) {
      unsetenv(name);
    }
  }
};

TEST_F(PlaceSegmentsTest, SaysWhatIsMissing) {
  const auto note = PlaceSegments();
  EXPECT_EQ(note.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(note.status().message()), HasSubstr("/dev/shm of "));
  EXPECT_THAT(std::string(note.status().message()), HasSubstr("1000 ranks want 2000266.2 MB"));
}

TEST_F(PlaceSegmentsTest, LooksAtTheFolderThatTheUserHasChosen) {
  setenv("OMPI_MCA_btl_vader_backing_directory", "/no/such/folder", 1);
  EXPECT_THAT(std::string(PlaceSegments().status().message()), HasSubstr("/no/such/folder of "));
  setenv("OMPI_MCA_btl_vader_segment_size", "1", 1);
  setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "2", 1);
  setenv("OMPI_MCA_btl_vader_backing_directory", ::testing::TempDir().c_str(), 1);
  EXPECT_EQ(PlaceSegments().value(), "");
}

TEST_F(PlaceSegmentsTest, WantsNothingWhereThereAreNoSegments) {
  setenv("OMPI_MCA_btl", "tcp,self", 1);
  EXPECT_TRUE(PlaceSegments().ok());
  setenv("OMPI_MCA_btl", "^vader,openib", 1);
  EXPECT_TRUE(PlaceSegments().ok());
  setenv("OMPI_MCA_btl", "^openib", 1);
  EXPECT_FALSE(PlaceSegments().ok());
  setenv("OMPI_MCA_btl", "vader,self", 1);
  EXPECT_FALSE(PlaceSegments().ok());
  setenv("OMPI_MCA_pml", "ucx", 1);
  EXPECT_TRUE(PlaceSegments().ok());
  setenv("OMPI_MCA_pml", "ob1", 1);
  EXPECT_FALSE(PlaceSegments().ok());
  setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "1", 1);
  EXPECT_TRUE(PlaceSegments().ok());
}

TEST(OwnSegmentTest, IsReservedAndLosesItsName) {
  constexpr size_t kBytes = 1 << 20;
  const std::string path =
      absl::StrCat(::testing::TempDir(), "vader_segment.host.", getpid(), ".1.7");
  const int file = open(path.c_str(), O_CREAT | O_RDWR, 0600);
  ASSERT_GE(file, 0);
  ASSERT_EQ(ftruncate(file, kBytes), 0);
  void* const mapped = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  ASSERT_NE(mapped, MAP_FAILED);

  EXPECT_TRUE(ReserveOwnSegment(6).ok());  // somebody else's
  struct stat found {};
  ASSERT_EQ(fstat(file, &found), 0);
  EXPECT_EQ(found.st_blocks, 0);
  EXPECT_TRUE(ReserveOwnSegment(7).ok());
  ASSERT_EQ(fstat(file, &found), 0);
  EXPECT_GE(found.st_blocks * 512, static_cast<int64_t>(kBytes));

  EXPECT_EQ(UnlinkOwnSegment(7), path);
  EXPECT_FALSE(std::filesystem::exists(path));
  RestoreSegmentName(path);
  EXPECT_EQ(std::filesystem::file_size(path), 0u);
  std::filesystem::remove(path);
  munmap(mapped, kBytes);
  close(file);
}

}  // namespace
}  // namespace tessera::worker
