"""What every script of the lab begins with."""
import ctypes, os, resource, signal, socket, struct, sys, threading, time

PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"


def ready():
    """Says that it serves, or sends."""
    print("ready", flush=True)


def listener(port=80, shared=False, device=None):
    """Listens on every address."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if device:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    server.bind(("", port))
    server.listen(128)
    return server


def answer(stream):
    """Reads one request to its end and answers it."""
    request = b""
    try:
        while b"\r\n\r\n" not in request:
            chunk = stream.recv(4096)
            if not chunk:
                return
            request += chunk
        stream.sendall(PAGE)
    except OSError:
        pass


def serve(server):
    """One client after the other."""
    while True:
        stream, _ = server.accept()
        with stream:
            answer(stream)
