%% Runs inside a test's RabbitMQ node, and evaluates the Erlang expressions that the test sends it: one request of
%% `{packet, 4}` for each connection. The answer is `ok`, or what went wrong.
{ok, [[Port]]} = init:get_argument(test_eval_port),
Options = [binary, {ip, {127, 0, 0, 1}}, {packet, 4}, {active, false}, {reuseaddr, true}],
Evaluate = fun(Request) ->
    try
        {ok, Tokens, _} = erl_scan:string(binary_to_list(Request)),
        {ok, Expressions} = erl_parse:parse_exprs(Tokens),
        {value, _, _} = erl_eval:exprs(Expressions, erl_eval:new_bindings()),
        <<"ok">>
    catch
        Class:Reason -> unicode:characters_to_binary(io_lib:format("~p: ~p", [Class, Reason]))
    end
end,
Serve = fun Serve(Listener) ->
    case gen_tcp:accept(Listener) of
        {ok, Socket} ->
            case gen_tcp:recv(Socket, 0) of
                {ok, Request} -> gen_tcp:send(Socket, Evaluate(Request));
                {error, _} -> gone
            end,
            gen_tcp:close(Socket);
        {error, _} ->
            timer:sleep(100)
    end,
    Serve(Listener)
end,
spawn(fun() ->
    {ok, Listener} = gen_tcp:listen(list_to_integer(Port), Options),
    Serve(Listener)
end).
