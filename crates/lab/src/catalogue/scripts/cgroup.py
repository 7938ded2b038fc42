"""A web server in a control group of its own, which goes when the script ends."""
import platform

# Where a version of cgroups has what holds a process back: mount below /sys/fs/cgroup, file, value.
FREEZE = [("unified", "cgroup.freeze", "1"), ("", "cgroup.freeze", "1"), ("freezer", "freezer.state", "FROZEN")]
QUOTA = [("", "cpu.max", "1000 100000"), ("cpu", "cpu.cfs_quota_us", "1000")]
MEMORY = [("", "memory.max", "32M"), ("memory", "memory.limit_in_bytes", "32M")]
FILTER = [("unified", "cgroup.procs", ""), ("", "cgroup.procs", "")]

INGRESS, EGRESS = 0, 1
BPF = {"x86_64": 321, "aarch64": 280}
BPF_PROG_LOAD, BPF_PROG_ATTACH, CGROUP_SKB, ALLOW_MULTI = 5, 8, 8, 2


def group(kinds):
    """A new cgroup: its path, and the file and value that hold back who is in it."""
    for mount, file, value in kinds:
        mount = os.path.join("/sys/fs/cgroup", mount)
        path = os.path.join(mount, f"whydrop-lab-{os.getpid()}")
        try:
            with open(f"{mount}/cgroup.subtree_control", "w") as controllers:
                controllers.write("+" + file.split(".")[0])
        except OSError:
            pass
        try:
            os.mkdir(path)
        except OSError:
            continue
        if os.path.exists(f"{path}/{file}"):
            return path, file, value
        os.rmdir(path)
    sys.exit("no such cgroup")


def write(path, file, value):
    with open(f"{path}/{file}", "w") as opened:
        opened.write(value)


def keep(path):
    """Removes the cgroup when this process has ended, by another that outlives it; returns what the children close."""
    waits, held = os.pipe()
    if os.fork() == 0:
        os.setsid()
        os.close(held)
        os.read(waits, 1)
        if os.path.exists(f"{path}/freezer.state"):
            write(path, "freezer.state", "THAWED")
        while os.path.exists(path):
            try:
                os.rmdir(path)
            except OSError:
                time.sleep(0.05)
        os._exit(0)
    os.close(waits)
    return held


def run(kinds, holds, work=lambda: None):
    """`holds`: what the kind of cgroup does is done. A server that ends is started again."""
    path, file, value = group(kinds)
    held = keep(path)
    told, tell = os.pipe()
    while True:
        child = os.fork()
        if child == 0:
            os.close(held)
            write(path, "cgroup.procs", "0")
            server = listener()
            os.write(tell, b".")
            while True:
                stream, _ = server.accept()
                with stream:
                    work()
                    answer(stream)
        os.read(told, 1)
        holds(path) if callable(holds) else holds and write(path, file, value)
        ready()
        os.waitpid(child, 0)
        time.sleep(0.1)


def compute():
    """What a request costs: 20 ms of a processor."""
    until = time.process_time() + 0.02
    while time.process_time() < until:
        pass


def leak(kept=[]):
    """What a request costs: 2 MB, forever."""
    kept.append(b"x" * (2 << 20))


def bpf(command, attributes):
    """bpf(2)."""
    attributes = ctypes.create_string_buffer(attributes, 128)
    done = ctypes.CDLL(None, use_errno=True).syscall(BPF[platform.machine()], command, attributes, 128)
    if done < 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    return done


def drop(direction):
    """Attaches a program of two instructions, `return 0`."""

    def attach(path):
        code = ctypes.create_string_buffer(bytes.fromhex("b700000000000000" "9500000000000000"))
        licence = ctypes.create_string_buffer(b"GPL")
        load = struct.pack("IIQQIIQII16sII", CGROUP_SKB, 2, ctypes.addressof(code), ctypes.addressof(licence),
                           0, 0, 0, 0, 0, b"deny", 0, direction)
        program = bpf(BPF_PROG_LOAD, load)
        cgroup = os.open(path, os.O_RDONLY)
        bpf(BPF_PROG_ATTACH, struct.pack("IIII", cgroup, program, direction, ALLOW_MULTI))

    return attach
