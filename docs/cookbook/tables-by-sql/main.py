"""Questions about tables: a model writes the query, the database answers it, and nothing can be written."""

from portico import Client, PorticoError
from portico.flow import _0, bind, input, llm, pipeline, tool, value

analyst = pipeline(
    tables=pipeline(lambda question: {}, tool("shop_schema")),
    request=bind(lambda tables, question: {"tables": tables, "question": question}, _0, input),
    query=llm("default", system="Write one SELECT for SQLite. The tables are: {tables}", user="{question}"),
    rows=tool("shop", query=value),
)

with Client() as client:
    for question in ("Which bread earned most?", "How much was sold each day?", "Forget all sales."):
        print(question)
        try:
            found = client.run(analyst, question)
            print("  ", *found["columns"], sep="  ")
            for row in found["rows"]:
                print("  ", *row, sep="  ")
        except PorticoError as error:
            print("  refused:", error)
