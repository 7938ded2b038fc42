"""Datagrams that are sent back, and those who ask by them."""

ATTACH_FILTER = 26


def echo(address="", port=9000, refuses=False):
    """Sends back what comes; from the address to which the kernel routes if it is bound to none. `refuses`: a filter of
    one instruction, `return 0`, takes all before it is read."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, port))
    if refuses:
        program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
        filter_of = struct.pack("HxxxxxxQ", 1, ctypes.addressof(program))
        server.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, filter_of)
    ready()
    while True:
        said, client = server.recvfrom(2048)
        server.sendto(said, client)


def resolve(server):
    """Five lookups at once, as a resolver makes them: a socket for each question, five seconds for its answer."""
    for _ in range(5):
        threading.Thread(target=look_up, args=(server,), daemon=True).start()
    ready()
    signal.pause()


def look_up(server):
    """One question after the other: A of example.org."""
    question = bytes.fromhex("4d2e01000001000000000000076578616d706c65036f72670000010001")
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.settimeout(5)
            try:
                asker.connect((server, 53))
                asker.send(question)
                asker.recv(512)
            except OSError:
                pass
        time.sleep(0.2)
