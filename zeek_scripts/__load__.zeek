@load ./options
@load ./packets
@load ./flows
