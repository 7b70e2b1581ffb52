/* The nine fields as a parser in C hands them over: what points into the message or the parser's own copy, valid until the call's end. */

#include <stddef.h>
#include <stdint.h>

struct span {
	const char *at;
	size_t len;
};

struct nine_uri {
	struct span scheme, user, host, parameters;
	uint32_t port;
};

struct nine {
	/* Of a response the method and the Request-URI are empty, and the status is not 0. */
	struct span method;
	uint32_t status;
	struct nine_uri request_uri;
	struct span branch, from_tag;
	struct nine_uri to;
	struct span call_id, call_id_host;
	uint32_t cseq;
	struct span cseq_method;
	struct nine_uri contact;
	uint32_t content_length;
};

typedef void nine_seen(const struct nine *nine, void *context);

/* Each parses a message, reads its nine fields, shows them once, and frees what it took; other than 0 where a field cannot be read. */
int nine_by_osip(const char *message, size_t len, nine_seen *seen, void *context);
int nine_by_re(const char *message, size_t len, nine_seen *seen, void *context);
