#include "process/exec_as.hpp"

#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace tornado::inline v1 {
namespace {

Error failed(const std::string& what) {
  errc code = errno == EPERM ? errc::permission_denied : errc::backend_failed;
  return Error(code, what + ": " + std::strerror(errno));
}

bool drop_capabilities() {
  if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return false;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  return ::syscall(SYS_capset, &header, none) == 0 && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

}  // namespace

Error exec_as(const std::string& account, const std::vector<std::string>& argv) {
  if (argv.empty() || !argv[0].starts_with('/'))
    return Error(errc::backend_failed, "the program is not an absolute path");
  if (::geteuid() == 0 && !account.empty()) {
    const passwd* entry = ::getpwnam(account.c_str());
    if (!entry) return Error(errc::not_found, "there is no account " + account);
    if (::initgroups(account.c_str(), entry->pw_gid) != 0) return failed("initgroups");
    if (::setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid) != 0) return failed("setresgid");
    if (::setresuid(entry->pw_uid, entry->pw_uid, entry->pw_uid) != 0) return failed("setresuid");
  }
  if (!drop_capabilities()) return failed("capabilities");
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  ::execv(words[0], words.data());
  return failed(argv[0]);
}

}  // namespace tornado::inline v1
