// What a user is told when mpirun ends. The texts are Open MPI 4.1.4's own, as it printed them.
#include "coordinator/group/job_output.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace tessera::coordinator {
namespace {

constexpr int kExitStatus1 = 1 << 8;

const std::string kRuler(74, '-');

// What Explain says behind "mpirun: exit status 1: ".
std::string Told(const std::string& output) {
  JobOutput lines;
  lines.Append(output, nullptr);
  lines.Flush(nullptr);
  const std::string message(lines.Explain("mpirun", kExitStatus1).message());
  const std::string prefix = "mpirun: exit status 1: ";
  EXPECT_EQ(message.substr(0, prefix.size()), prefix);
  return message.substr(std::min(message.size(), prefix.size()));
}

std::string Framed(const std::string& text) { return kRuler + "\n" + text + kRuler + "\n"; }

constexpr char kNotEnoughSlots[] =
    R"(There are not enough slots available in the system to satisfy the 3
slots that were requested by the application:

  tessera-worker

Either request fewer slots for your application, or make more slots
available for use.

A "slot" is the Open MPI term for an allocatable unit where we can
launch a process.  The number of slots available are defined by the
environment in which Open MPI processes are run:

  1. Hostfile, via "slots=N" clauses (N defaults to number of
     processor cores if not provided)
  2. The --host command line parameter, via a ":N" suffix on the
     hostname (N defaults to 1 if not provided)
  3. Resource manager (e.g., SLURM, PBS/Torque, LSF, etc.)
  4. If none of a hostfile, the --host command line parameter, or an
     RM is present, Open MPI defaults to the number of processor cores

In all the above cases, if you want Open MPI to default to the number
of hardware threads instead of the number of processor cores, use the
--use-hwthread-cpus option.

Alternatively, you can use the --oversubscribe option to ignore the
number of available slots when deciding the number of processes to
launch.
)";

constexpr char kNoHostfile[] = R"(Open RTE was unable to open the hostfile:
    missing
Check to make sure the path and filename are correct.
)";

constexpr char kInternalError[] = R"(An internal error has occurred in ORTE:

[[25348,0],0] FORCE-TERMINATE AT (null):1 - error ../../../../../orte/mca/ras/base/ras_base_allocate.c(352)

This is something that should be reported to the developers.
)";

constexpr char kNoDaemon[] = R"(ORTE was unable to reliably start one or more daemons.
This usually is caused by:

* not finding the required libraries and/or binaries on
  one or more nodes. Please check your PATH and LD_LIBRARY_PATH
  settings, or configure OMPI with --enable-orterun-prefix-by-default

* an inability to create a connection back to mpirun due to a
  lack of common network interfaces and/or no route found between
  them. Please check network connectivity (including firewalls
  and network routing requirements).
)";

constexpr char kSlotsTold[] =
    "There are not enough slots available in the system to satisfy the 3 slots that were requested "
    "by the application: tessera-worker";
constexpr char kUnresolved[] =
    "ssh: Could not resolve hostname no-such-host: Name or service not known";

TEST(JobOutputTest, MpirunsFirstSentenceIsTold) {
  EXPECT_EQ(Told(Framed(kNotEnoughSlots)), kSlotsTold);
  EXPECT_EQ(Told(Framed(kNoHostfile) + Framed(kInternalError)),
            "Open RTE was unable to open the hostfile: missing");
  EXPECT_EQ(Told(Framed(kNoDaemon)), "ORTE was unable to reliably start one or more daemons.");
  EXPECT_EQ(Told(Framed("The specified binding policy is not recognized:\n\n  Policy: nonsense\n\n"
                        "Please check for a typo or ensure that the option is a supported\none.\n")),
            "The specified binding policy is not recognized: Policy: nonsense");
  EXPECT_EQ(Told(Framed("mpirun was unable to launch the specified application as it could not "
                        "access\nor execute an executable:\n\nExecutable: /no/such/worker\n"
                        "Node: vm\n\nwhile attempting to start process rank 0.\n") +
                 "3 total processes failed to start\n"),
            "mpirun was unable to launch the specified application as it could not access or "
            "execute an executable: Executable: /no/such/worker, Node: vm");
  EXPECT_EQ(Told(Framed("It looks like opal_init failed for some reason; your parallel process is\n"
                        "likely to abort.  There are many reasons that a parallel process can\n"
                        "fail during opal_init\n")),
            "It looks like opal_init failed for some reason; your parallel process is likely to "
            "abort.");
  EXPECT_EQ(Told(Framed("The user (1000) is unknown to the system (i.e. there is no corresponding\n"
                        "entry in the password file). Please contact your system administrator\n"
                        "for a fix.\n")),
            "The user (1000) is unknown to the system (i.e. there is no corresponding entry in the "
            "password file).");
}

TEST(JobOutputTest, OutsideOfRulersALineIsASentence) {
  EXPECT_EQ(Told(std::string(kUnresolved) + "\r\n" + Framed(kNoDaemon)), kUnresolved);
  EXPECT_EQ(Told("mpirun: Error: unknown option \"--frobnicate\"\nType 'mpirun --help' for usage.\n"),
            "mpirun: Error: unknown option \"--frobnicate\"");
  EXPECT_EQ(Told("input in flex scanner failed"), "input in flex scanner failed");
}

TEST(JobOutputTest, WarningsAreToldOnlyWhereNothingElseIs) {
  const std::string added =
      "Warning: Permanently added '10.0.0.2' (ED25519) to the list of known hosts.\r\n";
  EXPECT_EQ(Told(added + "Permission denied (publickey).\r\n" + Framed(kNoDaemon)),
            "Permission denied (publickey).");
  EXPECT_EQ(Told("[vm:04120] Warning: could not find environment variable \"sleep\"\n" +
                 Framed(kNotEnoughSlots)),
            kSlotsTold);
  EXPECT_EQ(Told("bash: warning: setlocale: LC_ALL: cannot change locale (en_US.UTF-8)\n"
                 "bash: line 1: orted: command not found\n"),
            "bash: line 1: orted: command not found");
  EXPECT_EQ(Told(Framed("WARNING: Could not preload the binary file.\n\nFile: x\n") +
                 Framed(kNotEnoughSlots)),
            kSlotsTold);
  EXPECT_EQ(Told("note: /dev/shm of vm has 8.4 MB free\naborting the MPI job: it failed\n"),
            "aborting the MPI job: it failed");
  EXPECT_EQ(Told(added), "Warning: Permanently added '10.0.0.2' (ED25519) to the list of known hosts.");
}

TEST(JobOutputTest, AWorkersOwnErrorComesFirstThenTheNoticeOfADeadRank) {
  const std::string notice =
      "mpirun noticed that process rank 2 with PID 0 on node vm exited on signal 9 (Killed).";
  const std::string dead =
      Framed("Primary job  terminated normally, but 1 process returned\n"
             "a non-zero exit code. Per user-direction, the job has been aborted.\n") +
      Framed(notice + "\n");
  EXPECT_EQ(Told(dead), notice);
  EXPECT_EQ(Told("aborting the MPI job: it failed\n" + dead), notice);
  EXPECT_EQ(Told(dead + "tessera-worker: m.gguf: truncated\n"), "m.gguf: truncated");
  EXPECT_EQ(Told(Framed("mpirun noticed that the job aborted, but has no info as to the process\n"
                        "that caused that situation.\n")),
            "mpirun noticed that the job aborted, but has no info as to the process that caused "
            "that situation.");
  EXPECT_EQ(Told(Framed("Primary job  terminated normally, but 1 process returned\n"
                        "a non-zero exit code. Per user-direction, the job has been aborted.\n")),
            "Primary job terminated normally, but 1 process returned a non-zero exit code.");
}

TEST(JobOutputTest, ATextThatIsCutOffIsToldAsFarAsItGoes) {
  EXPECT_EQ(Told(kRuler + "\nThere are not enough slots available in the system to satisfy the 3\n"),
            "There are not enough slots available in the system to satisfy the 3");
  EXPECT_EQ(Told(kRuler + "\n" + kRuler + "\nOne.\nTwo.\n"), "One.");
  const std::string endless(100'000, 'x');
  EXPECT_LT(Told(kRuler + "\n" + endless + "\n" + endless + "\n").size(), 50'000u);
}

TEST(JobOutputTest, NothingToTellIsTheBareExit) {
  JobOutput lines;
  lines.Append(kRuler + "\n\n" + kRuler + "\n", nullptr);
  lines.Flush(nullptr);
  EXPECT_EQ(lines.Explain("mpirun", kExitStatus1).message(), "mpirun: exit status 1");
  EXPECT_TRUE(lines.Explain("mpirun", 0).ok());
}

}  // namespace
}  // namespace tessera::coordinator
