//! A queue of days in a second: the scheduler under a simulated clock.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::*;
use crate::backoff::Times;

/// The schedule as the index keeps it.
#[derive(Default)]
struct Index {
    entries: RefCell<BTreeSet<(Hop, Class, Due)>>,
    addresses: HashMap<QueueId, String>,
}

impl Source for Index {
    fn schedule(&self, hop: &Hop, class: Class, after: Option<Due>, limit: usize) -> Vec<Due> {
        let entries = self.entries.borrow();
        let least = Due { time: UnixTime(0), id: id(0), recipient: 0 };
        let from = (hop.clone(), class, after.unwrap_or(least));
        let same = entries.range(from..).take_while(|(other, kind, _)| other == hop && *kind == class);
        same.map(|(_, _, due)| *due).filter(|due| Some(*due) != after).take(limit).collect()
    }

    fn recipient(&self, due: &Due) -> Option<String> {
        self.addresses.get(&due.id).cloned()
    }
}

fn id(serial: u32) -> QueueId {
    QueueId::new(1, 0, serial).expect("in range")
}

fn hop(name: &str) -> Hop {
    Hop::new(&format!("smtp smtp {name}")).expect("hop")
}

const SMTP: Carrier = Carrier::Worker(mail_ipc::delivery::TransportKind::Smtp);
const LOCAL: Carrier = Carrier::Worker(mail_ipc::delivery::TransportKind::Local);

struct World {
    now: UnixTime,
    index: Index,
    scheduler: Scheduler,
}

impl World {
    fn new() -> Self {
        Self { now: UnixTime(1_000_000_000), index: Index::default(), scheduler: Scheduler::new(Limits::default()) }
    }

    fn put(&mut self, hop: &Hop, class: Class, serial: u32, recipient: u32, time: UnixTime) {
        let due = Due { time, id: id(serial), recipient };
        self.index.entries.borrow_mut().insert((hop.clone(), class, due));
        self.scheduler.due(hop, class, time, self.now);
    }

    fn grant(&mut self, carrier: Carrier) -> Option<Grant> {
        self.scheduler.grant(carrier, self.now, &self.index)
    }

    fn all(&mut self, carrier: Carrier) -> Vec<Grant> {
        std::iter::from_fn(|| self.grant(carrier)).collect()
    }

    fn end(&mut self, grant: &Grant, ended: Ended, next: Option<UnixTime>) {
        self.index
            .entries
            .borrow_mut()
            .retain(|(_, _, due)| due.id != grant.id || !grant.recipients.contains(&due.recipient));
        self.scheduler.finished(grant, ended, self.now);
        for number in &grant.recipients {
            if let Some(time) = next {
                self.put(&grant.hop.clone(), Class::Deferred, grant.id.serial(), *number, time);
            }
        }
    }
}

#[test]
fn destinations_take_turns_and_recipients_of_a_message_stay_together() {
    let mut world = World::new();
    let (a, b) = (hop("a.org"), hop("b.org"));
    for serial in 1..=3 {
        for recipient in 0..2 {
            world.put(&a, Class::Incoming, serial, recipient, world.now);
        }
    }
    world.put(&b, Class::Incoming, 9, 0, world.now);
    let grants = world.all(SMTP);
    let seen: Vec<(&str, u32, usize)> = grants
        .iter()
        .map(|g| (g.hop.as_str().rsplit(' ').next().expect("name"), g.id.serial(), g.recipients.len()))
        .collect();
    assert_eq!(seen, [("a.org", 1, 2), ("b.org", 9, 1), ("a.org", 2, 2), ("a.org", 3, 2)]);
}

#[test]
fn new_mail_and_deferred_mail_take_turns() {
    let mut world = World::new();
    let a = hop("a.org");
    for serial in 1..=2 {
        world.put(&a, Class::Incoming, serial, 0, world.now);
        world.put(&a, Class::Deferred, 10 + serial, 0, UnixTime(5));
    }
    let serials: Vec<u32> = world.all(SMTP).iter().map(|g| g.id.serial()).collect();
    assert_eq!(serials, [1, 11, 2, 12]);
}

#[test]
fn a_window_begins_small_and_grows_with_success_up_to_the_limit() {
    let mut world = World::new();
    let a = hop("a.org");
    for serial in 1..=500 {
        world.put(&a, Class::Incoming, serial, 0, world.now);
    }
    let mut under_way: VecDeque<Grant> = world.all(SMTP).into();
    assert_eq!(under_way.len(), 5);
    let mut widest = 0;
    while let Some(grant) = under_way.pop_front() {
        world.end(&grant, Ended::Answered, None);
        under_way.extend(world.all(SMTP));
        widest = widest.max(under_way.len());
    }
    assert_eq!(widest, 20);
    assert!(world.scheduler.lanes.is_empty(), "nothing stays in memory for a destination without mail");
    assert_eq!(world.scheduler.active(), 0);
}

/// A world in which smtp has so many processes, and so many workers carry it.
fn with_processes(processes: u32, workers: u32) -> World {
    let mut world = World::new();
    let limits = TransportLimits { processes, ..TransportLimits::default() };
    world
        .scheduler
        .set_limits(Limits { transports: HashMap::from([("smtp".to_owned(), limits)]), ..Limits::default() });
    world.scheduler.set_workers(HashMap::from([(SMTP, workers)]));
    world
}

#[test]
fn each_worker_carries_as_many_deliveries_as_the_transport_has_processes() {
    for (processes, workers, most) in [(3, 1, 3), (3, 2, 6), (3, 0, 3), (0, 1, 20)] {
        let mut world = with_processes(processes, workers);
        for serial in 1..=20 {
            world.put(&hop(&format!("d{serial}.org")), Class::Incoming, serial, 0, world.now);
        }
        let mut under_way: VecDeque<Grant> = world.all(SMTP).into();
        let mut seen: Vec<u32> = Vec::new();
        while let Some(grant) = under_way.pop_front() {
            assert!(under_way.len() < most, "{processes} processes of {workers} workers");
            world.end(&grant, Ended::Answered, None);
            seen.push(grant.id.serial());
            under_way.extend(world.all(SMTP));
            let left = 20 - seen.len();
            assert_eq!(under_way.len(), most.min(left), "nobody waits where there is room");
        }
        assert_eq!(seen, (1..=20).collect::<Vec<_>>(), "those that wait keep their order");
        assert!(world.scheduler.lanes.is_empty());
        assert_eq!(world.scheduler.services.take_waiting(), Vec::new());
    }
}

#[test]
fn who_waits_for_a_process_goes_on_when_there_are_more_of_them_or_the_first_has_nothing_left() {
    let mut world = with_processes(1, 1);
    let other = Hop::new("smtp relay d9.org").expect("hop");
    for serial in 1..=4 {
        world.put(&hop(&format!("d{serial}.org")), Class::Incoming, serial, 0, world.now);
    }
    world.put(&other, Class::Incoming, 9, 0, world.now);
    let serials = |grants: &[Grant]| grants.iter().map(|grant| grant.id.serial()).collect::<Vec<_>>();
    let first = world.all(SMTP);
    // Another transport has processes of its own.
    assert_eq!(serials(&first), [1, 9]);
    world.scheduler.set_workers(HashMap::from([(SMTP, 2)]));
    let second = world.all(SMTP);
    assert_eq!(serials(&second), [2]);
    // The next in turn is deleted meanwhile: the one behind it gets the room.
    world.index.entries.borrow_mut().retain(|(_, _, due)| due.id != id(3));
    world.end(&first[0], Ended::Answered, None);
    assert_eq!(serials(&world.all(SMTP)), [4]);
}

#[test]
fn a_dead_destination_is_left_alone_and_costs_the_others_nothing() {
    let mut world = World::new();
    let (dead, good) = (hop("dead.org"), hop("good.org"));
    for serial in 1..=100 {
        world.put(&dead, Class::Incoming, serial, 0, world.now);
        world.put(&good, Class::Incoming, 1000 + serial, 0, world.now);
    }
    let mut tried = 0;
    let mut delivered = 0;
    for _ in 0..1000 {
        for grant in world.all(SMTP) {
            if grant.hop == dead {
                tried += 1;
                let next = world.now.after(Duration::from_secs(300));
                world.end(&grant, Ended::Dead, Some(next));
            } else {
                delivered += 1;
                world.end(&grant, Ended::Answered, None);
            }
        }
    }
    assert_eq!((tried, delivered), (5, 100), "one cohort of five found out");
    assert_eq!(world.scheduler.wake(), Some(world.now.after(Duration::from_secs(300))));
    world.now = world.now.after(Duration::from_secs(300));
    let probe = world.all(SMTP);
    assert_eq!(probe.len(), 1, "one probe, not all at once");
    world.end(&probe[0], Ended::Answered, None);
    assert!(world.all(SMTP).len() > 1);
}

#[test]
fn one_local_user_never_holds_up_another() {
    let mut world = World::new();
    let local = Hop::new("local local example.org").expect("hop");
    for serial in 1..=30 {
        let address = if serial <= 20 { "slow@example.org" } else { "quick@example.org" };
        world.index.addresses.insert(id(serial), address.to_owned());
        world.put(&local, Class::Incoming, serial, 0, world.now);
    }
    let first = world.all(LOCAL);
    let of = |grants: &[Grant], name: &str| grants.iter().filter(|g| g.lane.as_deref() == Some(name)).count();
    assert_eq!((of(&first, "slow@example.org"), of(&first, "quick@example.org")), (2, 2));
    let quick = first.iter().find(|g| g.lane.as_deref() == Some("quick@example.org")).expect("one").clone();
    world.end(&quick, Ended::Answered, None);
    let next = world.all(LOCAL);
    assert_eq!((next.len(), next[0].lane.as_deref()), (1, Some("quick@example.org")));
}

#[test]
fn what_is_withdrawn_is_not_granted() {
    let mut world = World::new();
    let a = hop("a.org");
    for serial in 1..=8 {
        world.put(&a, Class::Incoming, serial, 0, world.now);
    }
    let first = world.grant(SMTP).expect("a grant");
    assert!(world.scheduler.withdraw(&a, first.id, 0), "leased: its outcome comes first");
    assert!(!world.scheduler.withdraw(&a, id(2), 0));
    world.index.entries.borrow_mut().retain(|(_, _, due)| due.id != id(2));
    let serials: Vec<u32> = world.all(SMTP).iter().map(|g| g.id.serial()).collect();
    assert!(!serials.contains(&2), "{serials:?}");
}

#[test]
fn what_a_dead_worker_gives_back_is_granted_again() {
    let mut world = World::new();
    let a = hop("a.org");
    for serial in 1..=3 * PAGE as u32 {
        world.put(&a, Class::Incoming, serial, 0, UnixTime(world.now.0 - 1000 + u64::from(serial)));
    }
    let lost = world.all(SMTP);
    for grant in &lost {
        world.scheduler.finished(grant, Ended::Untried, world.now);
        world.scheduler.look_again(&a, world.now);
    }
    let mut granted = BTreeSet::new();
    loop {
        let grants = world.all(SMTP);
        if grants.is_empty() {
            break;
        }
        for grant in grants {
            granted.insert(grant.id.serial());
            world.end(&grant, Ended::Answered, None);
        }
    }
    assert_eq!(granted.len(), 3 * PAGE);
}

#[test]
fn mail_of_before_a_restart_waits_until_the_workers_have_reported() {
    let mut world = World::new();
    let a = hop("a.org");
    let start = world.now;
    world.scheduler.hold_before = Some(start);
    world.put(&a, Class::Incoming, 1, 0, UnixTime(start.0 - 10));
    world.put(&a, Class::Incoming, 2, 0, start);
    let serials: Vec<u32> = world.all(SMTP).iter().map(|g| g.id.serial()).collect();
    assert_eq!(serials, [2]);
    world.scheduler.hold_before = None;
    world.scheduler.look_again(&a, world.now);
    let serials: Vec<u32> = world.all(SMTP).iter().map(|g| g.id.serial()).collect();
    assert_eq!(serials, [1]);
}

#[test]
fn the_active_set_is_bounded() {
    let mut world = World::new();
    world.scheduler.set_limits(Limits { active: 150, ..Limits::default() });
    for number in 0..50 {
        let destination = hop(&format!("d{number}.org"));
        for serial in 0..100 {
            world.put(&destination, Class::Incoming, number * 1000 + serial, 0, world.now);
        }
    }
    let mut delivered = 0;
    loop {
        let grants = world.all(SMTP);
        assert!(world.scheduler.active() <= 150 + PAGE);
        for grant in &grants {
            delivered += 1;
            world.end(grant, Ended::Answered, None);
        }
        if grants.is_empty() {
            let Some(wake) = world.scheduler.wake() else { break };
            world.now = world.now.max(wake);
        }
    }
    assert_eq!(delivered, 5000);
}

#[test]
fn five_days_of_a_dead_server_follow_the_backoff_and_end() {
    let mut world = World::new();
    let times = Times::default();
    let a = hop("down.org");
    let arrival = world.now;
    world.put(&a, Class::Incoming, 1, 0, arrival);
    let mut attempts = Vec::new();
    let mut guard = 0;
    loop {
        guard += 1;
        assert!(guard < 10_000, "the clock must advance");
        for grant in world.all(SMTP) {
            attempts.push(world.now.since(arrival).as_secs());
            let again = (!times.expired(arrival, false, world.now)).then(|| times.next_attempt(arrival, world.now));
            world.end(&grant, Ended::Dead, again);
        }
        match world.scheduler.wake() {
            Some(wake) => world.now = world.now.max(wake),
            None => break,
        }
    }
    assert_eq!(attempts[..5], [0, 300, 600, 1200, 2400]);
    assert!(attempts.windows(2).all(|pair| (300..=4001).contains(&(pair[1] - pair[0]))), "{attempts:?}");
    let end = attempts[attempts.len() - 1];
    assert!((5 * 86_400..5 * 86_400 + 4001).contains(&end), "{end}");
    assert!(world.scheduler.lanes.is_empty());
}

fn with_delay(transport: &str, limits: TransportLimits) -> World {
    let limits = TransportLimits { rate_delay: Duration::from_secs(20), ..limits };
    let all = Limits { transports: HashMap::from([(transport.to_owned(), limits)]), ..Limits::default() };
    World { scheduler: Scheduler::new(all), ..World::new() }
}

#[test]
fn with_a_rate_delay_a_destination_rests_after_each_delivery_and_no_other_does() {
    let mut world = with_delay("smtp", TransportLimits::default());
    let (a, b) = (hop("a.org"), hop("b.org"));
    for serial in 1..=3 {
        world.put(&a, Class::Incoming, serial, 0, world.now);
    }
    let first = world.all(SMTP);
    assert_eq!(first.len(), 1, "one after the other");
    world.end(&first[0], Ended::Answered, None);
    assert!(world.all(SMTP).is_empty(), "it rests");
    world.put(&b, Class::Incoming, 9, 0, world.now);
    assert_eq!(world.all(SMTP).len(), 1, "another destination does not");
    assert_eq!(world.scheduler.wake(), Some(world.now.after(Duration::from_secs(20))));
    world.now = world.now.after(Duration::from_secs(20));
    let second = world.all(SMTP);
    assert_eq!((second.len(), &second[0].hop), (1, &a));
    world.end(&second[0], Ended::Untried, None);
    world.put(&a, Class::Incoming, 4, 0, world.now);
    assert_eq!(world.all(SMTP).len(), 1, "nobody tried, nothing to rest from");
}

#[test]
fn with_a_rate_delay_and_one_recipient_each_the_recipient_rests() {
    let mut world = with_delay("local", TransportLimits { recipients: 1, ..TransportLimits::default() });
    let local = Hop::new("local local example.org").expect("hop");
    for (serial, address) in [(1, "a@example.org"), (2, "a@example.org"), (3, "b@example.org")] {
        world.index.addresses.insert(id(serial), address.to_owned());
        world.put(&local, Class::Incoming, serial, 0, world.now);
    }
    let first = world.all(LOCAL);
    assert_eq!(first.iter().map(|grant| grant.id.serial()).collect::<Vec<_>>(), [1, 3]);
    first.iter().for_each(|grant| world.end(grant, Ended::Answered, None));
    assert!(world.all(LOCAL).is_empty());
    world.now = world.now.after(Duration::from_secs(20));
    let second = world.all(LOCAL);
    assert_eq!(second.iter().map(|grant| grant.id.serial()).collect::<Vec<_>>(), [2]);
    world.end(&second[0], Ended::Answered, None);
    world.now = world.now.after(Duration::from_secs(20));
    assert!(world.all(LOCAL).is_empty());
    assert!(world.scheduler.hops().is_empty(), "nothing is remembered for ever");
}
