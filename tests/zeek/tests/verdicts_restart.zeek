# @TEST-DOC: A restart of Zeek reads the file again and raises nothing twice: it remembers (2). Where it cannot remember, it raises
# @TEST-DOC: nothing from before its start (3). Without a file's name nothing happens (4), and what is too old is forgotten (5).
# @TEST-DOC: The memory is kept in a folder of this user alone: not where others may write (6), and through no link (7).
# @TEST-EXEC: cp $VERDICTS/mixed.tsv verdicts.tsv && mktemp -d > folder
# @TEST-EXEC: zeek $PACKAGE/verdicts.zeek %INPUT PacketCLIP::raised_path=$(cat folder)/raised.tsv > /dev/null 2> 1.err && columns packetclip_episode < notice.log | sort > 1 && rm notice.log
# @TEST-EXEC: printf '1760000003.000000\tnew\topen\tDoS\t73\t0.99\t60\t-\t-\t-\t-\tnew\tA new one\tReason.\t.\n' >> verdicts.tsv
# @TEST-EXEC: zeek $PACKAGE/verdicts.zeek %INPUT PacketCLIP::raised_path=$(cat folder)/raised.tsv > /dev/null 2> 2.err && columns packetclip_episode < notice.log > 2 && rm notice.log
# @TEST-EXEC: zeek $PACKAGE/verdicts.zeek %INPUT PacketCLIP::raised_path=no/such/folder/raised.tsv > 3.out 2> 3.err
# @TEST-EXEC: test ! -e notice.log && grep -c "cannot be written, so verdicts from before" 3.err > 3
# @TEST-EXEC: zeek $PACKAGE/verdicts.zeek %INPUT PacketCLIP::verdicts_path= > 4.out 2> 4.err
# @TEST-EXEC: test ! -e notice.log && ! grep -q PacketCLIP 4.err && grep -c termination 4.err > 4
# @TEST-EXEC: zeek $PACKAGE/verdicts.zeek %INPUT PacketCLIP::verdicts_max_age=1sec PacketCLIP::raised_path=$(cat folder)/raised.tsv > 5.out 2> 5.err
# @TEST-EXEC: test ! -e notice.log && cat "$(cat folder)/raised.tsv" > 5
# @TEST-EXEC: mkdir -m 2770 "$(cat folder)/shared" && echo mine > victim && ln -s "$PWD/victim" "$(cat folder)/shared/raised.tsv.new"
# @TEST-EXEC: zeek $PACKAGE/verdicts.zeek %INPUT PacketCLIP::raised_path=$(cat folder)/shared/raised.tsv > 6.out 2> 6.err
# @TEST-EXEC: test ! -e notice.log && cat victim > 6 && grep -o "others may write there" 6.err >> 6
# @TEST-EXEC: mkdir -m 700 "$(cat folder)/own" && ln -s "$PWD/victim" "$(cat folder)/own/raised.tsv.new"
# @TEST-EXEC: zeek $PACKAGE/verdicts.zeek %INPUT PacketCLIP::raised_path=$(cat folder)/own/raised.tsv > 7.out 2> 7.err
# @TEST-EXEC: test ! -e notice.log && cat victim > 7 && grep -o "it is a link" 7.err >> 7 && rm -r "$(cat folder)"
# @TEST-EXEC: head 1 2 3 4 5 6 7 > out
# @TEST-EXEC: btest-diff out

redef exit_only_after_terminate = T;
redef PacketCLIP::verdicts_path = "verdicts.tsv";
redef PacketCLIP::verdicts_max_age = 10000days;

event stop()
	{
	terminate();
	}

event zeek_init()
	{
	schedule 4sec { stop() };
	}
