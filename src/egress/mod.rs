//! Viewers are served here: HTTP-FLV and RTMP play.
