# SPDX-License-Identifier: MIT
"""who: what has a port, whose it is, what is wrong with it, and whether another socket could be bound there.

command     the command line: PORT, or --bind ADDRESS:PORT
listeners   the listeners of a port, with their options, owners and flags
zombies     listeners that accept nothing
notes       what is no fault, and yet worth knowing
holders     every other socket that has the port
unseen      why no process is seen to have a socket
reading     options of sockets of other processes
words       all that as text and as JSON
rule        may a socket be bound? Pure
bind        that question for the sockets that are there, and what would help
answers     the answer as text and as JSON
"""
