//! FLV tags and files (Adobe FLV 10.1, Annex E).
