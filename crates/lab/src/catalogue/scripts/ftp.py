"""FTP in passive mode: the second connection goes to a port that the first one names."""
import re


def serve_files():
    """Lists one file."""
    server = listener(21)
    ready()
    while True:
        stream, _ = server.accept()
        threading.Thread(target=session, args=(stream,), daemon=True).start()


def session(stream):
    """One control connection."""
    own = stream.getsockname()[0]
    with stream:
        try:
            stream.settimeout(5)
            stream.sendall(b"220 ready\r\n")
            for line in stream.makefile("rb"):
                if line.startswith(b"PASV"):
                    data = socket.socket()
                    data.bind((own, 0))
                    data.listen(1)
                    data.settimeout(5)
                    named = ",".join(own.split(".") + [str(n) for n in divmod(data.getsockname()[1], 256)])
                    stream.sendall(f"227 Entering Passive Mode ({named})\r\n".encode())
                elif line.startswith(b"LIST"):
                    with data, data.accept()[0] as sends:
                        stream.sendall(b"150 here\r\n")
                        sends.sendall(b"file\r\n")
                    stream.sendall(b"226 done\r\n")
                else:
                    break
        except OSError:
            pass


def visit(to):
    """Four clients."""
    for _ in range(4):
        threading.Thread(target=list_files, args=(to,), daemon=True).start()
    ready()
    signal.pause()


def list_files(to):
    """One session after the other."""
    while True:
        try:
            with socket.create_connection((to, 21), 2) as stream:
                said = stream.makefile("rb")
                said.readline()
                stream.sendall(b"PASV\r\n")
                numbers = [int(n) for n in re.findall(rb"\d+", said.readline())[1:]]
                stream.sendall(b"LIST\r\n")
                with socket.create_connection((to, numbers[4] * 256 + numbers[5]), 2) as data:
                    data.recv(4096)
                said.readline()
                said.readline()
                stream.sendall(b"QUIT\r\n")
        except OSError:
            pass
        time.sleep(0.3)
