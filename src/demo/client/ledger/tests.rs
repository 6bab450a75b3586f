use super::*;
use crate::demo::wire::{Effect, State};

const MS: u64 = 1_000_000;

/// A service that works: one state per object, any worker.
#[derive(Clone, Default)]
struct Service {
    states: Vec<State>,
    pid: u32,
}

impl Service {
    fn new(objects: usize) -> Service {
        Service { states: vec![State::default(); objects], pid: 1 }
    }

    fn serve(&mut self, request: &Request) -> Option<Answer> {
        let mut passing = State::default();
        let state = match request.object() {
            KEYLESS => &mut passing,
            index => &mut self.states[index as usize],
        };
        let effect = state.apply(request);
        (effect != Effect::Stale).then(|| Answer::new(request, state, self.pid, b'a'))
    }
}

/// Lets `requests` more requests to object 0 be due, sent, served and checked.
fn run(ledger: &mut Ledger, service: &mut Service, requests: u64) {
    for at in 0..requests {
        ledger.due(Target::Object(0), at);
        let request = ledger.poll_send(at).expect("a request is due");
        let answer = service.serve(&request).expect("an answer");
        assert!(ledger.answer(&answer).is_some());
    }
}

fn faults(ledger: &Ledger) -> (u64, u64, u64) {
    let tally = ledger.tally();
    (tally.lost, tally.duplicated, tally.diverged)
}

#[test]
fn a_service_that_works_is_not_accused() {
    let (mut ledger, mut service) = (Ledger::new(1, 1), Service::new(1));
    run(&mut ledger, &mut service, 100);
    assert_eq!(faults(&ledger), (0, 0, 0));
    assert_eq!((ledger.tally().acked, ledger.unanswered()), (100, 0));
}

#[test]
fn a_lost_acknowledged_effect_is_caught() {
    let (mut ledger, mut service) = (Ledger::new(1, 1), Service::new(1));
    run(&mut ledger, &mut service, 10);
    let before = service.clone();
    run(&mut ledger, &mut service, 1);
    service = before; // the last acknowledged effect is gone
    run(&mut ledger, &mut service, 5);
    assert_eq!(faults(&ledger), (1, 0, 0), "counted once, not with every later answer");
}

#[test]
fn a_rewound_count_is_caught_in_full() {
    let (mut ledger, mut service) = (Ledger::new(1, 1), Service::new(1));
    run(&mut ledger, &mut service, 10);
    service = Service::new(1); // the other side has never heard of the object
    run(&mut ledger, &mut service, 1);
    assert_eq!(faults(&ledger), (10, 0, 0));
}

#[test]
fn a_doubled_acknowledged_effect_is_caught() {
    let (mut ledger, mut service) = (Ledger::new(1, 1), Service::new(1));
    run(&mut ledger, &mut service, 10);
    // Applied behind the client's back, and the object forgot that it was.
    let doubled = Request::new(0, 11, 7);
    service.states[0].apply(&doubled);
    let mut state = service.states[0];
    state.last = 10.into();
    service.states[0] = state;
    run(&mut ledger, &mut service, 1);
    assert_eq!(faults(&ledger), (0, 1, 0));
}

#[test]
fn a_wrong_hash_is_caught() {
    let (mut ledger, mut service) = (Ledger::new(1, 1), Service::new(1));
    run(&mut ledger, &mut service, 10);
    service.states[0].hash = 1.into(); // as many effects, but not these
    run(&mut ledger, &mut service, 3);
    assert_eq!(faults(&ledger), (0, 0, 1));
}

#[test]
fn an_answer_that_comes_twice_must_say_the_same() {
    let (mut ledger, mut service) = (Ledger::new(1, 1), Service::new(1));
    ledger.due(Target::Object(0), 0);
    let request = ledger.poll_send(0).expect("a request is due");
    let answer = service.serve(&request).expect("an answer");
    assert!(ledger.answer(&answer).is_some());
    assert!(ledger.answer(&answer).is_none());
    assert_eq!(faults(&ledger), (0, 0, 0), "sent again after a failover: allowed");

    let mut other = State::default();
    other.apply(&Request::new(0, 1, 99));
    let mut twice = other;
    twice.apply(&Request::new(0, 2, 98));
    ledger.answer(&Answer::new(&request, &other, 1, b'b'));
    assert_eq!(faults(&ledger), (0, 0, 1));
    ledger.answer(&Answer::new(&request, &twice, 1, b'b'));
    assert_eq!(faults(&ledger), (0, 1, 1));
}

#[test]
fn an_unanswered_request_is_repeated_under_its_number() {
    let (mut ledger, mut service) = (Ledger::new(1, 1), Service::new(1));
    ledger.due(Target::Object(0), 0);
    let first = ledger.poll_send(0).expect("a request is due");
    service.serve(&first); // served, but the answer never leaves
    assert_eq!(ledger.poll_send(19 * MS), None);
    let again = ledger.poll_send(20 * MS).expect("a repeat is due");
    assert_eq!(again, first);
    assert_eq!(ledger.poll_send(59 * MS), None, "the second repeat takes twice as long");
    let answer = service.serve(&again).expect("an answer to the repeat");
    let answered = ledger.answer(&answer).expect("it was in flight");
    assert_eq!(answered, Answered { due_ns: 0, sent_ns: 0 });
    assert_eq!(faults(&ledger), (0, 0, 0));
    assert_eq!(ledger.poll_send(1_000 * MS), None, "answered: nothing left to repeat");
    assert_eq!(ledger.tally().repeats, 1);
}

#[test]
fn requests_of_one_object_go_one_by_one_and_are_charged_from_when_due() {
    let (mut ledger, mut service) = (Ledger::new(2, 1), Service::new(2));
    ledger.due(Target::Object(0), 10);
    ledger.due(Target::Object(0), 20);
    ledger.due(Target::Object(1), 30);
    let first = ledger.poll_send(100).expect("the first object's first");
    let other = ledger.poll_send(100).expect("the other object's first");
    assert_eq!((first.object(), other.object()), (0, 1));
    assert_eq!(ledger.poll_send(100), None, "the second waits for the first");
    ledger.answer(&service.serve(&first).expect("an answer"));
    let second = ledger.poll_send(200).expect("the second may go");
    assert_eq!((second.number(), ledger.unanswered()), (2, 2));
    let answered = ledger.answer(&service.serve(&second).expect("an answer"));
    assert_eq!(answered, Some(Answered { due_ns: 20, sent_ns: 200 }));
}

#[test]
fn keyless_objects_come_and_go() {
    let (mut ledger, mut service) = (Ledger::new(1, 1), Service::new(1));
    for at in 0..10 {
        ledger.due(Target::Keyless, at);
    }
    let requests: Vec<Request> = std::iter::from_fn(|| ledger.poll_send(10)).collect();
    assert_eq!(requests.len(), 10);
    for request in requests.iter().rev() {
        let answer = service.serve(request).expect("an answer");
        assert!(ledger.answer(&answer).is_some());
        assert!(ledger.answer(&answer).is_none(), "the second one answers nothing");
    }
    let tally = ledger.tally();
    assert_eq!((tally.added, tally.withdrawn, tally.acked), (10, 10, 10));
    assert_eq!(faults(&ledger), (0, 0, 0));
}

#[test]
fn an_object_that_answers_no_more_has_lost_what_it_held() {
    let (mut ledger, mut service) = (Ledger::new(2, 1), Service::new(2));
    run(&mut ledger, &mut service, 10);
    ledger.due(Target::Object(0), 0);
    ledger.poll_send(0).expect("a request is due");
    ledger.give_up();
    assert_eq!((ledger.tally().lost, ledger.unanswered()), (10, 1));
}

#[test]
fn objects_served_by_several_are_counted() {
    let (mut ledger, mut service) = (Ledger::new(1, 1), Service::new(1));
    run(&mut ledger, &mut service, 5);
    assert_eq!(ledger.served_by_several(), 0);
    service.pid = 2;
    run(&mut ledger, &mut service, 1);
    assert_eq!(ledger.served_by_several(), 1);
}

#[test]
fn answers_about_unknown_objects_are_ignored() {
    let mut ledger = Ledger::new(1, 1);
    for object in [1, KEYLESS] {
        let request = Request::new(object, 1, 1);
        assert_eq!(ledger.answer(&Answer::new(&request, &State::default(), 1, b'a')), None);
    }
    assert_eq!(ledger.tally(), Tally::default());
}
