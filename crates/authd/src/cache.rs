//! A small memory with an end: so many entries, so long.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Remembers values by name. Full, it forgets what has expired, and if that is not enough, everything.
#[derive(Debug)]
pub(crate) struct Cache<V> {
    entries: HashMap<String, (Instant, V)>,
    most: usize,
    life: Duration,
}

impl<V: Clone> Cache<V> {
    pub(crate) fn new(most: usize, life: Duration) -> Self {
        Self { entries: HashMap::new(), most, life }
    }

    pub(crate) fn get(&self, name: &str, now: Instant) -> Option<V> {
        self.entries.get(name).filter(|(end, _)| now < *end).map(|(_, value)| value.clone())
    }

    pub(crate) fn put(&mut self, name: &str, value: V, now: Instant) {
        self.put_for(name, value, self.life, now);
    }

    /// The same with a life of its own.
    pub(crate) fn put_for(&mut self, name: &str, value: V, life: Duration, now: Instant) {
        if self.entries.len() >= self.most {
            self.entries.retain(|_, (end, _)| now < *end);
        }
        if self.entries.len() >= self.most {
            self.entries.clear();
        }
        self.entries.insert(name.to_owned(), (now + life, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_expire_and_never_exceed_the_bound() {
        let (start, life) = (Instant::now(), Duration::from_secs(10));
        let mut cache = Cache::new(2, life);
        cache.put("a", 1, start);
        assert_eq!(cache.get("a", start), Some(1));
        assert_eq!(cache.get("a", start + life), None);
        for name in ["b", "c", "d", "e"] {
            cache.put(name, 2, start);
            assert!(cache.entries.len() <= 2);
        }
        assert_eq!(cache.get("e", start), Some(2));
    }
}
