//! LMTP: an outcome for each recipient.

use test_support::remote::{Act, At, Setup};

use crate::world::{ensure, world};

pub fn per_recipient() -> Result<(), String> {
    let world = world()?;
    let remote = world.host("store.lmtp.example", |setup| Ok(Setup::lmtp(setup)))?;
    remote.about("full@", At::Dot, Act::say("452 4.2.2 over quota"));
    remote.about("gone@", At::Dot, Act::say("550 5.2.1 no more"));
    remote.about("nobody@", At::Rcpt, Act::say("550 5.1.1 nobody"));
    let to = |name: &str| format!("{name}@store.lmtp.example");
    let (good, full, gone, nobody) = (to("good"), to("full"), to("gone"), to("nobody"));
    let id = world.send(&[&good, &full, &gone, &nobody])?;
    world.fate(&id, &good, 1)?.expect("sent", "2.1.5", "stored")?;
    world.fate(&id, &full, 1)?.expect("deferred", "4.2.2", "452 4.2.2 over quota")?;
    world.fate(&id, &gone, 1)?.expect("bounced", "5.2.1", "550 5.2.1 no more")?;
    world.fate(&id, &nobody, 1)?.expect("bounced", "5.1.1", "550 5.1.1 nobody")?;
    remote.heal();
    world.retry(&id)?;
    world.fate(&id, &full, 2)?.expect("sent", "2.1.5", "stored")?;
    world.gone(&id)?;
    let count = |to: &str| remote.taken().iter().filter(|taken| taken.to == [format!("<{to}>")]).count();
    let counts = [count(&good), count(&full), count(&gone), count(&nobody)];
    ensure(counts == [1, 1, 0, 0], || format!("copies {counts:?}"))?;

    // RFC 2033 section 4.2: with no valid recipient DATA is answered 503, and no content follows.
    let none = world.host("none.lmtp.example", |setup| Ok(setup.lmtp()))?;
    none.on(At::Rcpt, Act::say("450 4.2.0 not now"));
    let id = world.send(&["a@none.lmtp.example", "b@none.lmtp.example"])?;
    for to in ["a@none.lmtp.example", "b@none.lmtp.example"] {
        world.fate(&id, to, 1)?.expect("deferred", "4.2.0", "450 4.2.0 not now")?;
    }
    ensure(none.taken().is_empty(), || "content was sent".to_owned())?;

    // The connection breaks between two replies to the dot: the first is decided, the other open.
    let half = world.host("half.lmtp.example", |setup| Ok(setup.lmtp()))?;
    half.once_about("second@", At::Dot, Act::close());
    let id = world.send(&["first@half.lmtp.example", "second@half.lmtp.example"])?;
    world.fate(&id, "first@half.lmtp.example", 1)?.expect("sent", "2.1.5", "stored")?;
    world.fate(&id, "second@half.lmtp.example", 1)?.expect("deferred", "4.4.2", "lost connection with")?;
    world.retry(&id)?;
    world.fate(&id, "second@half.lmtp.example", 2)?.expect("sent", "2.1.5", "stored")?;
    let first = half.taken().iter().filter(|taken| taken.to == ["<first@half.lmtp.example>"]).count();
    ensure(first == 1, || format!("{first} copies for the first"))
}
