//! The index as a map in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock};

use super::{Index, IndexError, Key, Value, Write};

/// An ordered map in memory; nothing of it outlives the process.
#[derive(Debug, Default)]
pub struct MemoryIndex {
    map: RwLock<BTreeMap<Key, Value>>,
}

impl Index for MemoryIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.map.read().unwrap_or_else(PoisonError::into_inner).get(key).map(|value| value.to_vec()))
    }

    fn scan(&self, from: &[u8], until: &[u8], limit: usize) -> Result<Vec<(Key, Value)>, IndexError> {
        if from >= until {
            return Ok(Vec::new());
        }
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let range = map.range::<[u8], _>((Bound::Included(from), Bound::Excluded(until)));
        Ok(range.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn apply(&self, writes: Vec<Write>) -> Result<(), IndexError> {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in writes {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(())
    }

    fn make_durable(&self) -> Result<(), IndexError> {
        Ok(())
    }
}
