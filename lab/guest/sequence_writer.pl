#!/usr/bin/perl
# Every 50 ms: append the next number to a log on every disk, fsync, and only then print it on the console.
# What the console shows was therefore on stable storage: it is the guest's own evidence that no byte was lost.
use strict;
use warnings;
use Fcntl qw(O_RDWR O_CREAT O_APPEND SEEK_SET);
use IO::Handle;

my $SECONDS = 0.05;
my $CHUNK   = 65536;
my %directory = (root => '/var/lib/sequence');
mkdir $directory{root};

# A machine with a second disk mounts it a while after it has begun to boot; one without must not wait for it.
if (() = glob('/sys/block/[sv]db')) {
    for (1 .. 1200) {
        last if system('mountpoint', '-q', '/srv/data') == 0;
        select(undef, undef, undef, 0.1);
    }
    system('mountpoint', '-q', '/srv/data') == 0 or die "the data disk was not mounted within 120 s";
    $directory{data} = '/srv/data';
}

sub last_number {
    my ($path) = @_;
    my $last = 0;
    if (open(my $log, '<', $path)) {
        while (my $line = <$log>) { $last = $1 + 0 if $line =~ /^(\d{12})\n\z/ }
    }
    return $last;
}

# The root disk first: a loss of power between the two leaves the data disk at most one record behind.
my @disks = grep { $directory{$_} } qw(root data);
my (%log, %last);
my $number = 0;
for my $disk (@disks) {
    my $path = "$directory{$disk}/log";
    $last{$disk} = last_number($path);
    $number = $last{$disk} if $last{$disk} > $number;
    # An append that a crash cut in half is closed, so that the next number stands on a line of its own.
    open($log{$disk}, '>>', $path) or die "$path: $!";
    my $size = -s $path;
    if ($size) {
        open(my $tail, '<', $path) or die "$path: $!";
        seek($tail, $size - 1, SEEK_SET);
        read($tail, my $byte, 1);
        syswrite($log{$disk}, "\n") if $byte ne "\n";
    }
}

for my $disk (@disks) {
    next unless $last{$disk} == $number - 1;
    syswrite($log{$disk}, sprintf("%012d\n", $number)) == 13 or die "$disk: $!";
    $log{$disk}->sync or die "$disk: $!";
}

open(my $console, '>', '/dev/console') or die "/dev/console: $!";
$console->autoflush(1);
my $devices = join(',', map { s{.*/}{}r } glob('/sys/block/[sv]d[a-z]'));
my $nics = join(',', map { s{.*/}{}r } grep { !m{/lo$} } glob('/sys/class/net/*'));
print $console sprintf("SEQSTART %d %s disks=%s nics=%s\n", $number + 1,
    join(' ', map { "last-$_=$last{$_}" } @disks), $devices, $nics);

my $churn_at = "$directory{root}/churn";
sysopen(my $churn, $churn_at, O_RDWR | O_CREAT) or die "$churn_at: $!";
my $noise = join('', map { chr(rand 256) } 1 .. $CHUNK);

while (1) {
    $number++;
    for my $disk (@disks) {
        syswrite($log{$disk}, sprintf("%012d\n", $number)) == 13 or die "$disk: $!";
        $log{$disk}->sync or die "$disk: $!";
    }
    print $console "SEQ $number\n";
    if ($number % 10 == 0) {
        sysseek($churn, $CHUNK * int(rand 256), SEEK_SET);
        substr($noise, int(rand($CHUNK - 16)), 16) = sprintf('%016d', $number);
        syswrite($churn, $noise);
        $churn->sync;
    }
    select(undef, undef, undef, $SECONDS);
}
