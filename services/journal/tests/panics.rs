//! A panic does not end the writer: the command that panics is refused, the other commands of its batch succeed (PL-4).
#![allow(clippy::unwrap_used)]

mod fixture;

use fixture::{Fixture, UNWRITABLE, author, enter, name, rename, request, rows, steward};
use hansa_journal::Command;
use hansa_kernel::ReasonClass;
use hansa_register_domain::City;

on_both!(a_rule_that_panics_spoils_nobody_elses_command, a_panic_while_it_is_written_leaves_nothing_and_ends_nothing);

fn broken(key: &str) -> Command<City> {
    Command::new(name(key), author(&steward()), |_: Option<&City>, _| panic!("a rule that panics"))
}

async fn a_rule_that_panics_spoils_nobody_elses_command(f: Fixture) {
    let entered = f.journal.submit_each(vec![enter("a", "Lyon"), enter("b", "Tunis")], false).await;
    assert!(entered.iter().all(Result::is_ok));
    // Repeat, so that in some rounds the commands share a batch.
    for round in 0..20 {
        let commands = vec![rename("a", &format!("Lyon {round}")), broken("b"), rename("b", &format!("Tunis {round}"))];
        let answers = f.journal.submit_each(commands, false).await;
        assert!(answers[0].is_ok() && answers[2].is_ok());
        let refusal = answers[1].as_ref().unwrap_err();
        assert_eq!((refusal.class, refusal.rule), (ReasonClass::Internal, "PL-4"));
        assert!(!refusal.to_string().contains("that panics"), "the panic message must only be logged");
    }
    assert_eq!(rows(&f.journal).await, ["Lyon 19", "Tunis 19"]);
}

async fn a_panic_while_it_is_written_leaves_nothing_and_ends_nothing(f: Fixture) {
    f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    let command = || rename("a", UNWRITABLE).idempotent(request(1, 1));
    for _ in 0..3 {
        let refusal = f.journal.submit(command(), false).await.unwrap_err();
        assert_eq!((refusal.class, refusal.rule), (ReasonClass::Unavailable, "PL-4"));
        assert!(refusal.help.contains("request_id"), "{}", refusal.help);
    }
    let city = f.journal.load::<City>(&name("a")).await.unwrap().unwrap();
    assert_eq!((city.state.display_name(), city.version), ("Lyon", 1), "the command leaves nothing behind");
    let done = f.journal.submit(rename("a", "Lugdunum").idempotent(request(2, 1)), false).await.unwrap();
    assert_eq!((done.version, done.replayed), (2, false));
    assert_eq!(rows(&f.journal).await, ["Lugdunum"]);
    let other = f.again().await;
    assert_eq!(other.load::<City>(&name("a")).await.unwrap().unwrap().version, 2);
}
