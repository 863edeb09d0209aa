"""The unattended loop of `hrda night`: recordings are adapted on one by one, and a link moves to what is better.

    finished   which recordings of a folder are whole, and whether one has changed
    link       the link that the node loads its model by: read, and moved in one moment
    journal    one line a recording, and the recording that is worked on
    turn       one recording: adapt, judge, adopt or keep, reload, note; goes on after any interruption
    night      the recordings of a folder, one turn after the other

The adaptation and the node are functions that are given: `hrda adapt` and `~/reload` by processes of their own.
"""
