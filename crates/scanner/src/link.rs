//! The two pipes between this process and whoever started it.

use std::cell::RefCell;
use std::io::{self, BufWriter, IoSliceMut, Read, Stdout};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use portcullis_inventory::protocol::{Said, receive, send};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde::de::DeserializeOwned;

/// Standard input, a socket on which descriptors may come, and standard output.
pub struct Link {
    input: BorrowedFd<'static>,
    output: RefCell<BufWriter<Stdout>>,
}

/// Reads without a buffer: what comes behind a message may be a descriptor.
struct Input(BorrowedFd<'static>);

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0, buffer)?)
    }
}

impl Link {
    /// The one of this process.
    pub fn of_this_process() -> Self {
        let output = BufWriter::with_capacity(256 << 10, io::stdout());
        Self { input: rustix::stdio::stdin(), output: RefCell::new(output) }
    }

    pub(crate) fn send(&self, said: &Said) -> io::Result<()> {
        send(&mut *self.output.borrow_mut(), said)
    }

    pub(crate) fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<M>> {
        receive(&mut Input(self.input))
    }

    /// A connection to clamd; `None` if there is none to be had.
    pub(crate) fn connect(&self) -> io::Result<Option<UnixStream>> {
        self.send(&Said::Connect)?;
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut byte)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = rustix::net::recvmsg(self.input, &mut parts, &mut control, flags)?;
        if received.bytes != 1 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        Ok(descriptor.map(UnixStream::from))
    }
}
