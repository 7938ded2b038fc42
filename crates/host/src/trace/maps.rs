//! Maps that are counted into for days: emptied at the begin of each window, or they would be full one day, and a shape
//! of drops that was sampled often enough once would never be sampled again.

use aya::Pod;
use aya::maps::{HashMap, MapData, MapError, PerCpuHashMap};

/// Takes everything out, and says whether there was anything. What is counted meanwhile stays, or goes.
pub fn empty<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>) -> Result<bool, MapError> {
    let keys = map.keys().collect::<Result<Vec<K>, _>>()?;
    keys.iter().try_for_each(|key| map.remove(key))?;
    Ok(!keys.is_empty())
}

/// The same of a map that each processor counts into by itself.
pub fn empty_per_cpu<K: Pod, V: Pod>(map: &mut PerCpuHashMap<MapData, K, V>) -> Result<bool, MapError> {
    let keys = map.keys().collect::<Result<Vec<K>, _>>()?;
    keys.iter().try_for_each(|key| map.remove(key))?;
    Ok(!keys.is_empty())
}
