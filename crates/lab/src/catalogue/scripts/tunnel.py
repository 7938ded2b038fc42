"""One end of a tunnel in user space: packets of a tun device in datagrams."""
import fcntl, select, subprocess

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
PORT = 5000


def run(own, peer, reads=True):
    """`reads`: False for a program that hangs after it has set up its device."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", b"tun0", IFF_TUN | IFF_NO_PI))
    outer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    outer.bind(("", PORT))
    for words in ["addr add %s/24 dev tun0" % own, "link set tun0 up mtu 1400 txqueuelen 8"]:
        subprocess.run(["ip"] + words.split(), check=True)
    ready()
    while reads:
        for ready_to_read in select.select([device, outer], [], [])[0]:
            try:
                if ready_to_read is outer:
                    os.write(device, outer.recv(2048))
                else:
                    outer.sendto(os.read(device, 2048), (peer, PORT))
            except OSError:
                pass
    signal.pause()
