//! A few connections to the database, used by threads that may block. There are never more of either than
//! [`CONNECTIONS`]: when the database is slow, who comes next is told so after a while, and no thread waits for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::problem::Problem;
use crate::db::Location;
use crate::store::{Store, StoreError};

/// Connections, and statements at once.
const CONNECTIONS: usize = 6;

/// How long a request waits for a connection to be free, and then for its answer.
const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);

/// Statements that take longer are ended by the server.
const STATEMENT: Duration = Duration::from_secs(8);

pub(super) struct Pool {
    location: Location,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Store>>,
}

impl Pool {
    pub(super) fn new(location: Location) -> Arc<Self> {
        Arc::new(Self {
            location,
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            idle: Mutex::new(Vec::new()),
        })
    }

    /// Reads with a connection, on a thread that may block; again with a new one where an old one turns out to be lost.
    pub(super) async fn read<T, W>(self: &Arc<Self>, work: W) -> Result<T, Problem>
    where
        T: Send + 'static,
        W: Fn(&mut Store) -> Result<T, StoreError> + Send + 'static,
    {
        self.run(move |pool| {
            let (mut store, is_kept) = pool.take()?;
            let mut done = work(&mut store);
            if is_kept && matches!(&done, Err(err) if err.is_away()) {
                store = pool.connect()?;
                done = work(&mut store);
            }
            pool.give_back(store, &done);
            done
        })
        .await
    }

    /// Changes something, once: whether a connection still lives is found out before.
    pub(super) async fn change<T, W>(self: &Arc<Self>, work: W) -> Result<T, Problem>
    where
        T: Send + 'static,
        W: FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    {
        self.run(move |pool| {
            let (mut store, is_kept) = pool.take()?;
            if is_kept && store.time().is_err() {
                store = pool.connect()?;
            }
            let done = work(&mut store);
            pool.give_back(store, &done);
            done
        })
        .await
    }

    async fn run<T, W>(self: &Arc<Self>, work: W) -> Result<T, Problem>
    where
        T: Send + 'static,
        W: FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    {
        let permits = Arc::clone(&self.permits);
        let Ok(Ok(permit)) = timeout(PATIENCE, permits.acquire_owned()).await else {
            return Err(Problem::slow());
        };
        let pool = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let done = work(&pool);
            // Held until here, whether or not anybody still waits for the answer.
            drop(permit);
            done
        });
        match timeout(ANSWER, task).await {
            Ok(Ok(done)) => done.map_err(|err| Problem::of_store(&err)),
            Ok(Err(panicked)) => Err(Problem::broken(&panicked.to_string())),
            Err(_too_long) => Err(Problem::slow()),
        }
    }

    /// A connection, and whether it is one that was used before.
    fn take(&self) -> Result<(Store, bool), StoreError> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.map_or_else(|| Ok((self.connect()?, false)), |store| Ok((store, true)))
    }

    fn give_back<T>(&self, store: Store, done: &Result<T, StoreError>) {
        if !matches!(done, Err(err) if err.is_away()) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(store);
        }
    }

    fn connect(&self) -> Result<Store, StoreError> {
        let mut store = Store::connect(&self.location)?;
        store.require_schema()?;
        store.limit_statements(STATEMENT)?;
        Ok(store)
    }
}
