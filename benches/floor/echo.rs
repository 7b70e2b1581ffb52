//! The floor: a server that sends back what it gets, by the ports of our network layer and with nothing else to do.
//!
//! `echo af_xdp|udp ADDRESS:PORT DEVICE`, until it is killed. `strowger load --echo` takes what comes back for the answer.

use std::net::SocketAddr;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use strowger::counters::Counters;
use strowger::datagram::{Datagram, ListenerId};
use strowger::net::{self, BackendChoice, ListenerSpec, WorkerPorts};
use strowger::time::Instant;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [backend, address, device] = words.as_slice() else {
        panic!("echo af_xdp|udp ADDRESS:PORT DEVICE");
    };
    let address: SocketAddr = address.parse().expect("an address and a port");
    let mut listener = ListenerSpec::new(ListenerId(0), address);
    if backend == "af_xdp" {
        listener.backend = BackendChoice::AfXdp;
        listener.interface = Some(device.clone());
        listener.queues = Some(vec![0]);
    } else {
        listener.backend = BackendChoice::Udp;
    }
    let counters = [Arc::new(Counters::new())];
    let mut opened = net::open(&[listener], 1, &counters).expect("the network opens");
    let ports = opened.workers.pop().expect("one worker was asked for");
    println!("ready");
    serve(ports);
}

/// Sends back what comes, the way it came.
fn serve(ports: WorkerPorts) -> ! {
    let WorkerPorts {
        mut receivers,
        mut transmitters,
        ..
    } = ports;
    loop {
        for receiver in &mut receivers {
            receiver.receive(Instant::EPOCH, &mut |datagram: Datagram<'_>, link| {
                let bytes = datagram.bytes;
                let write = |out: &mut [u8]| out.copy_from_slice(bytes);
                // What finds no room is lost, as on a network.
                let _ = transmitters.send(&datagram.flow, link, bytes.len(), write);
            });
        }
        transmitters.flush();
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: if transmitters.is_idle() { IDLE_NS } else { 0 },
        };
        let mut fds: Vec<PollFd<'_>> = receivers
            .iter()
            .map(|receiver| PollFd::from_borrowed_fd(receiver.fd(), PollFlags::IN))
            .collect();
        // Interrupted or not, the next turn looks everywhere.
        let _ = poll(&mut fds, Some(&timeout));
    }
}

const IDLE_NS: i64 = 100_000_000;
