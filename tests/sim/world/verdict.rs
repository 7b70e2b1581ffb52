//! What is judged from outside: the ends that the agents saw, and the bindings that they were told of.

use strowger::limits::LOCATION_SHARDS;
use strowger::location::{SweepCursor, Targets};

use super::super::agent::{ClientState, FINALS_LOST_MAX, Purpose};
use super::super::monitor::Violation;
use super::{Event, World, violation};

impl World {
    /// What the agents have to say in the end: what they began must have ended.
    pub(super) fn check_agents(&self) -> Result<(), Violation> {
        for client in self.agents.iter().flat_map(|agent| &agent.clients) {
            let record = self.ledger.record(client.call);
            if record.is_tainted || record.is_disturbed {
                continue;
            }
            let what = format!("{} {:?} {:?}", client.method, client.purpose, client.state);
            let fail = |rule| Err(violation(rule, Some(client.call), what.clone()));
            match client.state {
                ClientState::Calling | ClientState::Proceeding => {
                    return fail("what was begun has ended");
                }
                ClientState::Abandoned if record.lost_finals < FINALS_LOST_MAX => {
                    return fail("every INVITE ends");
                }
                // Ten or eleven copies, each of them lost on its way there or its answer on the way back.
                ClientState::TimedOut
                    if record.lost < LOST_MAX
                        && !record.is_silent
                        && !matches!(client.purpose, Purpose::Cancel(_)) =>
                {
                    return fail("a request is answered unless it was lost");
                }
                ClientState::Completed
                | ClientState::Accepted
                | ClientState::Over
                | ClientState::TimedOut
                | ClientState::Abandoned => {}
            }
        }
        Ok(())
    }

    /// An acknowledged binding is never lost, and one whose removal was acknowledged is gone.
    pub(super) fn check_bindings(&mut self) {
        let mut targets = Targets::new();
        for agent in &self.agents {
            let Some(node) = self
                .node_at(agent.first_hop)
                .filter(|node| self.nodes[*node].is_up)
            else {
                continue;
            };
            let registration = &agent.registration;
            let is_trusted = agent
                .registration_call()
                .is_some_and(|call| !self.ledger.record(call).is_tainted);
            if !is_trusted {
                continue;
            }
            let _ =
                self.nodes[node]
                    .location
                    .contacts(self.now, agent.user.as_bytes(), &mut targets);
            let is_bound = targets
                .iter()
                .any(|target| target.uri == agent.contact().as_bytes());
            let must = registration
                .bound_until
                .is_some_and(|until| until > self.now);
            self.monitor.seen.bindings_checked += u64::from(must);
            let must_not = registration.unbound_since.is_some() && !agent.is_registering();
            if (must && !is_bound) || (must_not && is_bound) {
                let what = format!(
                    "{} bound: {is_bound}, must: {must}, must not: {must_not}",
                    agent.user
                );
                let call = agent.registration_call();
                let found = violation(
                    "an acknowledged binding is kept, a removed one gone",
                    call,
                    what,
                );
                self.monitor.violation.get_or_insert(found);
            }
        }
        for node in self.nodes.iter().filter(|node| node.is_up) {
            let mut cursor = SweepCursor::new(0, 1);
            for _ in 0..LOCATION_SHARDS {
                node.location.sweep(self.now, &mut cursor, 64);
            }
        }
        if self.now < self.closing {
            let at = self.now + self.random.secs(3, 12);
            self.schedule(at, Event::CheckBindings);
        }
    }
}

/// So many losses within one call excuse a request that was never answered.
const LOST_MAX: u32 = 6;
