//! The peer of a hand-over: iceoryx2's publish-subscribe, polled.
//!
//! Set up as its own latency benchmark is: one publisher, one subscriber, no history, a sample is loaned,
//! written and sent, and the other end calls `receive` until there is one. To count messages, none may be
//! lost: the buffer is as long as the plain ring and the publisher waits for room.

use std::path::Path;

use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

use crate::options::MessageSize;
use crate::registry::BenchError;

pub(super) const THERE: bool = true;

pub(super) fn describe(size: MessageSize) -> String {
    format!("iceoryx2 0.10 publish-subscribe {size}")
}

type Service = ipc::Service;
type Messages = PortFactory<Service, [u8], ()>;

/// A node of our own and its service; all its files begin with the bench's own name.
fn service(beside: &Path, buffer: usize) -> Result<(Node<Service>, Messages), BenchError> {
    let own = beside.file_name().unwrap_or_default().to_string_lossy();
    let name_it = "name iceoryx2's files";
    let mut config = Config::default();
    config.global.prefix = FileName::new(format!("{own}.iceoryx2_").as_bytes())
        .map_err(|error| BenchError::setup(name_it)(format!("{error:?}")))?;
    let root = iceoryx2::prelude::Path::new(format!("{}.iceoryx2", beside.display()).as_bytes())
        .map_err(|error| BenchError::setup(name_it)(format!("{error:?}")))?;
    config.global.set_root_path(&root);
    let node = NodeBuilder::new()
        .config(&config)
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .create::<Service>()
        .map_err(BenchError::setup("make a node of iceoryx2"))?;
    let name = ServiceName::new("bench").map_err(BenchError::setup("name iceoryx2's service"))?;
    let service = node
        .service_builder(&name)
        .publish_subscribe::<[u8]>()
        .max_publishers(1)
        .max_subscribers(1)
        .history_size(0)
        .subscriber_max_buffer_size(buffer)
        .enable_safe_overflow(buffer == 1)
        .open_or_create()
        .map_err(BenchError::setup("make a service of iceoryx2"))?;
    Ok((node, service))
}

pub(super) struct Sender {
    publisher: Publisher<Service, [u8], ()>,
    _node: Node<Service>,
}

impl Sender {
    pub(super) fn open(beside: &Path, size: usize, buffer: usize) -> Result<Self, BenchError> {
        let (node, service) = service(beside, buffer)?;
        let publisher = service
            .publisher_builder()
            .initial_max_slice_len(size)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .map_err(BenchError::setup("set up iceoryx2's publisher"))?;
        Ok(Sender { publisher, _node: node })
    }
}

impl super::Sender for Sender {
    #[inline]
    fn send(&mut self, _: u64, message: &[u8]) -> Result<(), BenchError> {
        let sample = self
            .publisher
            .loan_slice_uninit(message.len())
            .map_err(BenchError::setup("loan a sample of iceoryx2"))?;
        sample.write_from_slice(message).send().map_err(BenchError::setup("send by iceoryx2"))?;
        Ok(())
    }
}

pub(super) struct Receiver {
    subscriber: Subscriber<Service, [u8], ()>,
    _node: Node<Service>,
}

impl Receiver {
    pub(super) fn open(beside: &Path, _: usize, buffer: usize) -> Result<Self, BenchError> {
        let (node, service) = service(beside, buffer)?;
        let subscriber = service
            .subscriber_builder()
            .create()
            .map_err(BenchError::setup("set up iceoryx2's subscriber"))?;
        Ok(Receiver { subscriber, _node: node })
    }
}

impl super::Receiver for Receiver {
    #[inline]
    fn receive(&mut self, _: u64, see: &mut impl FnMut(&[u8])) -> Result<u64, BenchError> {
        let sample = self.subscriber.receive().map_err(BenchError::setup("receive by iceoryx2"))?;
        let Some(sample) = sample else {
            return Ok(0);
        };
        see(sample.payload().get(8..).unwrap_or_default());
        Ok(1)
    }

    fn sleep(&mut self) {}
}
