//! Start-up of every daemon: options, generations, log, monitor, sockets, reload, drain.
