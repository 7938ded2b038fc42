"""Connections that are kept open, and who answers on them."""


def echo(port=5222):
    """Sends back what comes, on as many connections as there are."""
    server = listener(port)
    ready()
    while True:
        stream, _ = server.accept()
        threading.Thread(target=send_back, args=(stream,), daemon=True).start()


def send_back(stream):
    """To the end of one connection."""
    with stream:
        try:
            while said := stream.recv(4096):
                stream.sendall(said)
        except OSError:
            pass


def hold(to, pause, patience=120):
    """Eight connections that say something every `pause` seconds, and give one up that is silent for `patience`."""
    for number in range(8):
        threading.Thread(target=talk, args=(to, pause, patience, number), daemon=True).start()
    ready()
    signal.pause()


def talk(to, pause, patience, number):
    """One connection after the other; one that is given up ends without a word."""
    time.sleep(pause * number / 8)
    while True:
        with socket.socket() as stream:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.settimeout(patience)
            try:
                stream.connect((to, 5222))
                while True:
                    stream.sendall(b"still there?")
                    if not stream.recv(4096):
                        break
                    time.sleep(pause)
            except OSError:
                pass
        time.sleep(0.2)


def shake_hands(to):
    """One connection after the other, closed here first: each leaves its port in TIME_WAIT."""
    ready()
    while True:
        with socket.socket() as stream:
            stream.settimeout(1)
            try:
                stream.connect((to, 5222))
                stream.sendall(b"hello")
                stream.recv(4096)
                stream.shutdown(socket.SHUT_WR)
                stream.recv(4096)
            except OSError:
                pass
        time.sleep(0.05)
