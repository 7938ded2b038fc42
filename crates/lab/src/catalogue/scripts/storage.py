"""A web server that writes each request to a log, on a file system of its own."""
import subprocess, tempfile

CLONE_NEWNS = 0x20000
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878


def run(frozen):
    """`frozen`: the file system was frozen for a snapshot, and not thawed. It goes with the mount namespace."""
    import fcntl

    ctypes.CDLL(None).unshare(CLONE_NEWNS)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/disk", "w") as disk:
            disk.truncate(8 << 20)
        subprocess.run(["mkfs.ext4", "-q", f"{folder}/disk"], check=True)
        os.mkdir(f"{folder}/log")
        subprocess.run(["mount", "-o", "loop", f"{folder}/disk", f"{folder}/log"], check=True)
        log = open(f"{folder}/log/access", "ab", buffering=0)
        root = os.open(f"{folder}/log", os.O_RDONLY)
        os.unlink(f"{folder}/disk")
        waits, held = os.pipe()
        if os.fork() == 0:
            # Nothing ends a process that waits for a frozen file system.
            os.setsid()
            os.close(held)
            log.close()
            os.read(waits, 1)
            if frozen:
                fcntl.ioctl(root, FITHAW, 0)
            os.close(root)
            os.chdir("/")
            subprocess.run(["umount", "-l", f"{folder}/log"])
            os.rmdir(f"{folder}/log")
            os.rmdir(folder)
            os._exit(0)
        if os.fork() == 0:
            os.close(held)
            server = listener()
            if frozen:
                fcntl.ioctl(root, FIFREEZE, 0)
            os.close(root)
            ready()
            while True:
                stream, _ = server.accept()
                with stream:
                    log.write(b"GET /\n")
                    answer(stream)
        log.close()
        os.close(root)
        signal.pause()
