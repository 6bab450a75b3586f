//! The other peer of a hand-over: ipc-channel's channel of bytes, polled.
//!
//! The receiving process names itself (`IpcOneShotServer`), and the sender makes the channel and sends it the receiving end, as the crate's
//! documentation does between two processes. The messages are plain bytes, so nothing is serialised.

use ipc_channel::TryRecvError;
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};

use crate::registry::BenchError;

pub(super) const NAME: &str = "ipc-channel 0.23 bytes_channel";

/// What fails if it does not.
const SET_UP: &str = "set up ipc-channel";

/// Waits for a sender.
pub(super) struct Server {
    server: IpcOneShotServer<IpcBytesReceiver>,
    /// By which the sender finds it.
    pub(super) name: String,
}

impl Server {
    pub(super) fn new() -> Result<Option<Self>, BenchError> {
        let (server, name) = IpcOneShotServer::new().map_err(BenchError::setup(SET_UP))?;
        Ok(Some(Server { server, name }))
    }

    pub(super) fn accept(self) -> Result<Receiver, BenchError> {
        let (_, receiver) = self
            .server
            .accept()
            .map_err(|error| BenchError::setup(SET_UP)(format!("{error:?}")))?;
        Ok(Receiver(receiver))
    }
}

pub(super) struct Receiver(IpcBytesReceiver);

impl super::Receiver for Receiver {
    #[inline]
    fn receive(&mut self, _: u64, see: &mut impl FnMut(&[u8])) -> Result<u64, BenchError> {
        match self.0.try_recv() {
            Ok(message) => {
                see(message.get(8..).unwrap_or_default());
                Ok(1)
            }
            Err(TryRecvError::Empty) => Ok(0),
            Err(error) => Err(BenchError::setup("receive by ipc-channel")(format!("{error:?}"))),
        }
    }

    fn sleep(&mut self) {}
}

pub(super) struct Sender(IpcBytesSender);

impl Sender {
    pub(super) fn open(name: &str) -> Result<Self, BenchError> {
        let server = IpcSender::connect(name.to_owned()).map_err(BenchError::setup(SET_UP))?;
        let (sender, receiver) = ipc::bytes_channel().map_err(BenchError::setup(SET_UP))?;
        server.send(receiver).map_err(|error| BenchError::setup(SET_UP)(format!("{error:?}")))?;
        Ok(Sender(sender))
    }
}

impl super::Sender for Sender {
    #[inline]
    fn send(&mut self, _: u64, message: &[u8]) -> Result<(), BenchError> {
        self.0.send(message).map_err(BenchError::setup("send by ipc-channel"))
    }
}
