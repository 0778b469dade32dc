"""A machine with the real systemd of this host as its first process and Tornado installed in it.

Namespaces of its own (processes, mounts, control groups, IPC, host name) and the network of the lab's gateway. Its /usr
is the host's, read-only, with what `cmake --install` installs laid over it; everything else is made here and lies in
memory. Of the host's units it runs only the journal and sysusers. Nothing of it outlives `close`, or the lab.
"""

import glob
import os
import secrets
import subprocess

from lab import TORNADOD, WORK, in_namespace, run, until

UNITS = "/usr/lib/systemd/system"
BUILD = os.path.dirname(os.path.dirname(TORNADOD))
STARTED = {"systemd-journald.service", "systemd-sysusers.service"}

# Runs in the new namespaces. Sysctls are the host's, but for those of the network.
BEGIN = """
cd "$1"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
pivot_root . mnt
cd /
umount -l /mnt
exec env -i container=lab PATH=/usr/sbin:/usr/bin /usr/lib/systemd/systemd --unit=lab.target --log-target=journal \
  --show-status=no
"""


class Machine:
    def __init__(self, namespace="gw"):
        self.root = WORK + "/machine"
        self.groups = WORK + "/groups"
        self.process = None
        os.makedirs(self.root)
        os.makedirs(self.groups)
        run("mount", "-t", "cgroup2", "cgroup2", self.groups)
        for left in glob.glob(self.groups + "/tornado-lab-*"):  # of a run that was killed
            self.remove_groups(left)
        self.group = f"{self.groups}/tornado-lab-{secrets.token_hex(4)}"
        self.furnish()
        os.mkdir(self.group)
        begin = f'echo $$ >{self.group}/cgroup.procs && exec unshare --pid --fork --kill-child --mount --cgroup --ipc --uts ' \
                f'--propagation private sh -ec \'{BEGIN}\' sh {self.root}'
        self.console = open(WORK + "/console", "w+")
        self.process = subprocess.Popen(in_namespace(namespace, "sh", "-ec", begin), stdin=subprocess.DEVNULL,
                                        stdout=self.console, stderr=subprocess.STDOUT, start_new_session=True)
        until(self.is_up, "systemd is up", 30)

    def furnish(self):
        mount = ["mount", "-t", "tmpfs", "-o"]
        run(*mount, "mode=755", "machine", self.root)
        for name in ("usr", "etc/systemd/system", "run", "tmp", "var/lib", "var/tmp", "var/log", "proc", "sys", "dev", "mnt",
                     "root", "home"):
            os.makedirs(f"{self.root}/{name}")
        os.symlink("../run", self.root + "/var/run")
        for name in ("bin", "sbin", "lib", "lib64"):
            os.symlink("usr/" + name, f"{self.root}/{name}")
        stage = WORK + "/stage"
        done = subprocess.run(["cmake", "--install", BUILD, "--component", "daemon", "--prefix", "/usr"],
                              env={**os.environ, "DESTDIR": stage}, capture_output=True, text=True)
        assert os.path.exists(f"{stage}{UNITS}/tornadod.service"), done.stdout + done.stderr
        run("mount", "-t", "overlay", "-o", f"ro,lowerdir={stage}/usr:/usr", "usr", self.root + "/usr")
        run(*mount, "mode=755", "run", self.root + "/run")
        run(*mount, "mode=1777", "tmp", self.root + "/tmp")
        run(*mount, "mode=755", "dev", self.root + "/dev")
        for name in ("pts", "shm", "net"):
            os.mkdir(f"{self.root}/dev/{name}")
        for name, major, minor in (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9),
                                   ("tty", 5, 0), ("net/tun", 10, 200)):
            run("mknod", "--mode=666", f"{self.root}/dev/{name}", "c", str(major), str(minor))
        os.symlink("pts/ptmx", self.root + "/dev/ptmx")
        for name in os.listdir(UNITS + "/sysinit.target.wants"):
            if name not in STARTED:
                os.symlink("/dev/null", f"{self.root}/etc/systemd/system/{name}")
        for name in ("systemd-journald-audit.socket", "systemd-journal-flush.service", "systemd-tmpfiles-setup.service"):
            if not os.path.lexists(f"{self.root}/etc/systemd/system/{name}"):
                os.symlink("/dev/null", f"{self.root}/etc/systemd/system/{name}")
        self.write("/etc/systemd/system/lab.target", "[Unit]\nRequires=sysinit.target\n")
        self.write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n")
        self.write("/etc/group", "root:x:0:\nnogroup:x:65534:\n")
        self.write("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
        self.write("/etc/machine-id", secrets.token_hex(16) + "\n")
        with open("/etc/ld.so.cache", "rb") as cache, open(self.root + "/etc/ld.so.cache", "wb") as copy:
            copy.write(cache.read())

    def write(self, path, text):
        path = self.root + path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)

    # Its first process, as the lab sees it.

    def first(self):
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            children = file.read().split()
        return children[0] if children else None

    def is_up(self):
        if self.process.poll() is not None:
            raise AssertionError("systemd ended: " + self.said())
        try:
            with open(f"/proc/{self.first()}/comm") as file:
                if file.read() != "systemd\n":
                    return False
        except OSError:
            return False
        return self.run("systemctl", "is-active", "lab.target", check=False) == "active\n"

    def said(self):
        self.console.seek(0)
        return self.console.read()[-5000:]

    def run(self, *words, check=True):
        return run("nsenter", "--target", self.first(), "--all", "--", *words, check=check)

    def systemctl(self, *words, check=True):
        return self.run("systemctl", *words, check=check)

    def show(self, unit, name):
        return self.systemctl("show", "--value", "--property", name, unit).strip()

    def main_pid(self, unit):
        """Of a running service, as the lab sees it; 0: none."""
        inner = int(self.show(unit, "MainPID"))
        if inner == 0:
            return 0
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                with open(f"/proc/{name}/status") as file:
                    pids = [line.split()[1:] for line in file if line.startswith("NSpid:")]
            except OSError:
                continue
            if pids and pids[0][1:] == [str(inner)]:
                return int(name)
        return 0

    def journal(self, unit):
        return self.run("journalctl", "--unit", unit, "--output", "cat", "--no-pager")

    # The end.

    @staticmethod
    def remove_groups(top):
        for directory, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                return False
        return True

    def close(self):
        if self.process:
            self.process.kill()
            self.process.wait(20)
            self.process = None
            self.console.close()
        until(lambda: not os.path.exists(self.group) or self.remove_groups(self.group), "its processes are gone", 10)
        for path in (self.root, self.groups):
            run("umount", "--recursive", path)
            os.rmdir(path)
        run("rm", "-r", WORK + "/stage")
