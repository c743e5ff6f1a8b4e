//! What becomes of a component that wants sockets.

use crate::wasi::sockets::instance_network::instance_network;
use crate::wasi::sockets::network::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use crate::wasi::sockets::tcp_create_socket::create_tcp_socket;
use crate::wasi::sockets::udp_create_socket::create_udp_socket;

pub fn tour() -> String {
    let network = instance_network();
    let here = IpSocketAddress::Ipv4(Ipv4SocketAddress { port: 80, address: (127, 0, 0, 1) });
    let tcp = create_tcp_socket(IpAddressFamily::Ipv4).unwrap();
    let udp = create_udp_socket(IpAddressFamily::Ipv6).unwrap();
    [
        format!("{:?}", tcp.start_bind(&network, here)),
        format!("{:?}", tcp.finish_bind()),
        format!("{:?}", tcp.start_connect(&network, here)),
        format!("{:?}", tcp.local_address().map(drop)),
        format!("{:?} {:?}", tcp.address_family(), tcp.is_listening()),
        format!("{:?} {:?}", tcp.hop_limit().map(drop), tcp.set_hop_limit(5)),
        format!("{:?} {:?}", udp.start_bind(&network, here), udp.address_family()),
    ]
    .join(", ")
}
