use super::super::notices::{self, Notices};
use super::*;

fn place(name: &str) -> std::path::PathBuf {
    std::path::PathBuf::from(format!("/nowhere/{}-{name}", std::process::id()))
}

fn failover(timeout_ms: u32) -> Request {
    Request::Failover { timeout_ms }
}

fn start(name: &str) -> (Control, Notices<Notice>, std::path::PathBuf) {
    let (tell, notices) = notices::channel();
    let place = place(name);
    (Control::start(&place, tell).expect("nobody has the name"), notices, place)
}

/// Answers the next request as the loop would.
fn serve_one(notices: &Notices<Notice>) -> Request {
    loop {
        match notices.next_ready() {
            Some(Notice::Asked(Asked { request, answer, .. })) => {
                let reply = Reply { epoch: Some(7), ..Reply::new(Outcome::Done, "") };
                answer.send(reply).expect("somebody waits");
                return request;
            }
            Some(other) => panic!("{other:?}"),
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
}

#[test]
fn a_question_reaches_the_loop_and_its_answer_the_asker() {
    let (control, notices, place) = start("asks");
    let asker = thread::spawn({
        let place = place.clone();
        move || ask(&place, failover(5_000))
    });
    assert_eq!(serve_one(&notices), failover(5_000));
    let reply = asker.join().expect("no panic").expect("it was answered");
    assert_eq!((reply.outcome, reply.epoch), (Outcome::Done, Some(7)));
    drop(control);
    assert!(matches!(ask(&place, failover(1)), Err(AskError::NotRunning { .. })));
    // The name is free again at once.
    drop(Control::start(&place, notices::channel().0).expect("as after a restart"));
}

#[test]
fn a_loop_that_stands_still_is_a_time_out() {
    let (_control, _notices, place) = start("still");
    let reply = ask(&place, failover(10)).expect("the thread answers for the loop");
    assert_eq!(reply.outcome, Outcome::TimedOut);
}

/// Goal: who trickles, floods or talks nonsense keeps no honest client waiting.
#[test]
fn bad_clients_harm_nobody() {
    let (_control, notices, place) = start("bad");
    let user = geteuid().as_raw();
    let dial = || asking::dial(&place, user).expect("it listens");

    let mut nonsense = dial();
    nonsense.write_all(b"{\"do\":\"dance\"}\n").expect("it is read");
    let until = Instant::now() + Duration::from_secs(20);
    let answer = read_line(&mut nonsense, until, 4096).expect("an answer");
    let reply: Reply = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!(reply.outcome, Outcome::Bad);

    // A nest so deep that a parser would run out of stack.
    let mut nest = dial();
    nest.write_all(&[&[b'['; 4000][..], b"\n"].concat()).expect("it is read");
    let answer = read_line(&mut nest, until, 64 << 10).expect("an answer");
    let reply: Reply = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!(reply.outcome, Outcome::Bad);

    // A line without an end is cut off, and so is one that never comes.
    let mut endless = dial();
    let flood = vec![b'x'; 64 << 10];
    let cut = (0..100).any(|_| endless.write_all(&flood).is_err());
    assert!(cut, "six megabytes were taken from a client");
    let mut trickling: Vec<_> = (0..CLIENTS_MAX + 2).map(|_| dial()).collect();
    for client in &mut trickling {
        let _ = client.write_all(b"{");
    }
    for client in &mut trickling {
        let until = Instant::now() + Duration::from_secs(20);
        read_line(client, until, 4096).expect_err("it is let go of");
    }

    let asker = thread::spawn({
        let place = place.clone();
        move || ask(&place, failover(5_000))
    });
    serve_one(&notices);
    assert_eq!(asker.join().expect("no panic").expect("answered").outcome, Outcome::Done);
}

/// Goal: who may not ask is told so, whatever he does, and takes no place of those who may.
#[test]
fn strangers_are_turned_away() {
    // The kernel's word cannot be forged here, so the allowed user is somebody else.
    let (ours, _theirs) = UnixStream::pair().expect("sockets");
    let own = geteuid().as_raw();
    let group = nix::unistd::getegid().as_raw();
    let others = Allowed { user: own.wrapping_add(1), group: None };
    // Root may ask anybody.
    assert_eq!(others.check(&ours).is_ok(), own == 0);
    let members = Allowed { group: Some(group), ..others };
    assert!(members.check(&ours).is_ok(), "of the process's own group");
    for group in nix::unistd::getgroups().expect("groups") {
        let members = Allowed { group: Some(group.as_raw()), ..others };
        assert!(members.check(&ours).is_ok(), "of supplementary group {group}");
    }
}

/// Goal: a node whose name somebody else has serves all the same, and has it once it is free.
#[test]
fn a_name_that_was_taken_is_taken_back() {
    let place = place("taken");
    let name = name(&place, geteuid().as_raw());
    let address = SocketAddr::from_abstract_name(name).expect("a short name");
    let squatter = UnixListener::bind_addr(&address).expect("nobody has the name");
    let (tell, notices) = notices::channel();
    let _control = Control::start(&place, tell).expect("a thread");
    drop(squatter);
    let asker = thread::spawn(move || {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            match ask(&place, failover(5_000)) {
                Err(AskError::NotRunning { .. }) if Instant::now() < until => {
                    thread::sleep(Duration::from_millis(20));
                }
                told => break told,
            }
        }
    });
    serve_one(&notices);
    assert_eq!(asker.join().expect("no panic").expect("answered").outcome, Outcome::Done);
}

#[test]
fn a_configuration_is_read_by_whom_the_program_names() {
    let (control, _notices, place) = start("reload");
    let nobody = ask(&place, Request::Reload).expect("an answer");
    assert_eq!(nobody.outcome, Outcome::Refused);
    control.manners().on_reload(Box::new(|| Reply {
        applied: vec!["x".repeat(60); 1_000],
        ..Reply::new(Outcome::Done, "")
    }));
    let reply = ask(&place, Request::Reload).expect("a long answer");
    assert_eq!((reply.outcome, reply.applied.len()), (Outcome::Done, 1_000));
}
