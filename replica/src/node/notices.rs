//! How the waiting threads hand what they learned to the loop: a queue of fixed size and a bell.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use tokio::sync::Notify;

/// Notices come a few a second, and the loop takes all of them in each turn.
const CAPACITY: usize = 1024;
/// A loop that takes nothing for so long is about to be killed by its supervisor.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Shared<T> {
    queue: ArrayQueue<T>,
    bell: Notify,
}

/// The loop's end. There is one.
#[derive(Debug)]
pub(super) struct Notices<T>(Arc<Shared<T>>);

/// An end for a thread that waits for something.
#[derive(Debug)]
pub(super) struct Teller<T>(Arc<Shared<T>>);

// Not derived: that would ask for `T: Clone`.
impl<T> Clone for Teller<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Both ends of a new queue.
pub(super) fn channel<T>() -> (Teller<T>, Notices<T>) {
    let shared = Arc::new(Shared { queue: ArrayQueue::new(CAPACITY), bell: Notify::new() });
    (Teller(Arc::clone(&shared)), Notices(shared))
}

impl<T> Teller<T> {
    /// Hands a notice over. Waits for room only while the loop stands still, and not for ever.
    pub(super) fn tell(&self, mut notice: T) {
        let begun = Instant::now();
        while let Err(back) = self.0.queue.push(notice) {
            if begun.elapsed() > PATIENCE {
                tracing::error!("the node's loop stands still: a notice is lost");
                return;
            }
            notice = back;
            thread::sleep(Duration::from_millis(1));
        }
        self.0.bell.notify_one();
    }
}

impl<T> Notices<T> {
    /// The next notice, if there is one.
    pub(super) fn next_ready(&self) -> Option<T> {
        self.0.queue.pop()
    }

    /// The next notice. May be dropped while it waits: nothing is taken before it returns.
    pub(super) async fn next(&self) -> T {
        loop {
            if let Some(notice) = self.next_ready() {
                return notice;
            }
            // Keeps a permit from a bell that rang since the look above.
            self.0.bell.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_arrive_in_order_and_wake_a_waiting_loop() {
        let (tell, notices) = channel();
        let sender = thread::spawn(move || (0..5 * CAPACITY).for_each(|n| tell.tell(n)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            for n in 0..5 * CAPACITY {
                assert_eq!(notices.next().await, n);
            }
        });
        sender.join().expect("it told everything");
        assert_eq!(notices.next_ready(), None);
    }
}
