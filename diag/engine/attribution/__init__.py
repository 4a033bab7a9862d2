"""Attribution: one recorded step under a matrix of switches, each in a process that never saw another setting."""
