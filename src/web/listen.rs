//! Taking connections: not more than [`CONNECTIONS`] at once, none that dawdles, none that is cut off when the page stops.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep, timeout};

/// Connections at once; who comes then waits in the kernel's queue.
const CONNECTIONS: usize = 512;

/// A request's head is there after this long, or the connection is closed.
const HEAD: Duration = Duration::from_secs(10);

/// A connection on which nothing moves for this long is closed.
const IDLE: Duration = Duration::from_secs(30);

/// A connection is closed after this long, whatever it is used for.
const LIFE: Duration = Duration::from_secs(600);

/// Bytes of a request's head at most.
const HEAD_BYTES: usize = 32 * 1024;

/// How long what is under way may take when the page stops.
const GOODBYE: Duration = Duration::from_secs(5);

/// Answers requests until `stop` has a signal.
pub(super) async fn run(listener: TcpListener, router: Router, mut stop: watch::Receiver<Option<i32>>) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    loop {
        let (stream, peer, place) = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = stop.wait_for(Option::is_some) => break,
        };
        let answers = TowerToHyperService::new(router.clone());
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer);
            answers.call(request)
        });
        let connection = http.serve_connection(TokioIo::new(Lively::new(stream)), service);
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            if let Ok(Err(err)) = timeout(LIFE, watched).await {
                log::debug!("connection from {peer}: {err}");
            }
            drop(place);
        });
    }
    drop(listener);
    if timeout(GOODBYE, graceful.shutdown()).await.is_err() {
        log::debug!("some connections were cut off");
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    // It is never closed, so there is always a place in the end.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, place),
            // One that is gone again, or no more file descriptors: neither is a reason to end.
            Err(err) => {
                log::warn!("cannot take a connection: {err}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A connection that fails when nothing moves on it for [`IDLE`].
struct Lively {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
}

impl Lively {
    fn new(stream: TcpStream) -> Self {
        Self { stream, deadline: Box::pin(sleep(IDLE)) }
    }

    /// Passes on what moved, and sees to it that a standstill ends.
    fn judge<T>(&mut self, moved: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        match moved {
            Poll::Ready(done) => {
                self.deadline.as_mut().reset(Instant::now() + IDLE);
                Poll::Ready(done)
            }
            Poll::Pending => {
                self.deadline.as_mut().poll(context).map(|()| Err(io::Error::from(io::ErrorKind::TimedOut)))
            }
        }
    }
}

impl AsyncRead for Lively {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.judge(moved, context)
    }
}

impl AsyncWrite for Lively {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(moved, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
