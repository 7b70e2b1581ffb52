//! A phone behind a NAT says an address of its own that nobody can reach: it is called where its REGISTER came from.

use super::bed::{Bed, Family};
use super::calls::{Backend, configuration};
use super::phones;
use super::scratch::Scratch;
use super::server::Server;
use super::sipp::Sipp;

#[test]
#[ignore = "needs root and network namespaces: bash tests/run.sh"]
fn a_phone_behind_a_nat_is_reached_where_its_register_came_from() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let _server = Server::start(
        &bed.server,
        &scratch,
        &configuration(&bed, Family::V4, Backend::Driver, 2),
    );
    let link = bed.link();
    let phones = &phones::groups(link, Family::V4, 0..50, 1)[0];
    let users = phones.users(&scratch, |_| "register".to_owned());
    let registration = Sipp::new(
        &link.phones,
        &scratch,
        "register_nat",
        phones.address,
        phones.server,
    );
    let registration = registration
        .users(&users)
        .key("contact", "192.168.1.10:5060")
        .calls(phones.count(), 50);
    registration.run(phones::PATIENCE).assert_clean();
    phones::assert_clean(&phones::call(
        link,
        &scratch,
        std::slice::from_ref(phones),
        50,
        50,
    ));
}
