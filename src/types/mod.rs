//! Small types that every layer shares: ids, time, limits. No I/O.
