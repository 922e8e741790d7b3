# SPDX-License-Identifier: MIT
"""Mutations of csrc."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "csrc/mptcp_sockopt.c",
        "fuzz",
        (
            "result == -1 && errno > 0 && errno <= MOST_ERRNO ? -errno : -EPROTO;\n}\n\nint sockopt_get",
            "result == -1 ? -errno : -EPROTO;\n}\n\nint sockopt_get",
        ),
        ("length < least || length > room || length % 4 ?", "length > room || length % 4 ?"),
        ("length < least || length > room || length % 4 ?", "length < least || length % 4 ?"),
        ("length < least || length > room || length % 4 ?", "length < least || length > room ?"),
        ("if (!is_family(local) || remote != local)", "if (!is_family(local))"),
        ("if (!is_family(local) || remote != local)", "if (remote != local)"),
        ("if (state == 0 || state > MOST_STATE)", "if (state > MOST_STATE)"),
        ("if (state == 0 || state > MOST_STATE)", "if (state == 0)"),
        ("return kernel >= least && kernel <= MOST_STRUCT", "return kernel <= MOST_STRUCT"),
        ("kernel <= MOST_STRUCT && kernel % 4 == 0", "kernel % 4 == 0"),
        ("user == (kernel < room ? kernel : room)", "user != 0"),
        ("user == (kernel < room ? kernel : room)", "(!user || user == (kernel < room ? kernel : room))"),
        ("\tclear(info, 0, MPTCP_INFO_ROOM);\n", ""),
        ("\tclear(info, 0, TCP_INFO_ROOM);\n", ""),
        (
            "LEAST_MPTCP_INFO, MPTCP_INFO_ROOM);\n\treturn length >= 0 &&",
            "0, MPTCP_INFO_ROOM);\n\treturn length >= 0 &&",
        ),
        (
            "(int)offsetof(struct mptcp_full_info, mptcp_info) + LEAST_MPTCP_INFO",
            "(int)offsetof(struct mptcp_full_info, mptcp_info)",
        ),
        ("return length >= 0 && !are_tcp_infos(info, 1, 0) ? -EPROTO : length;", "return length;"),
        (
            "header->size_subflow_data != sizeof(*header) || count > MOST_SUBFLOWS",
            "header->size_subflow_data != sizeof(*header)",
        ),
        ("if (length != (int)(sizeof(*header) + (count < fit ? count : fit) * header->size_user))", "if (0)"),
        (
            "return (addrs ? are_addrs : are_tcp_infos)(elements, count, header->size_user) ? length : -EPROTO;",
            "return length;",
        ),
        ("if (length == -EPROTO)\n\t\theader->size_subflow_data = 0;", ""),
        (
            "if (count > MOST_SUBFLOWS || header->size_arrays_user != slots",
            "if (header->size_arrays_user != slots",
        ),
        (
            "!are_sizes(header->size_sfinfo_kernel, header->size_sfinfo_user, LEAST_SUBFLOW_INFO,\n\t\t       SUBFLOW_INFO_ROOM) ||",
            "",
        ),
        (
            "SUBFLOW_INFO_ROOM) ||\n\t    !are_sizes(header->size_tcpinfo_kernel, header->size_tcpinfo_user, LEAST_SUBFLOW_TCP_INFO,\n\t\t       TCP_INFO_ROOM))",
            "SUBFLOW_INFO_ROOM))",
        ),
        ("addrs_at = header->size_sfinfo_kernel == LEAST_SUBFLOW_INFO ? 4 : 8;", "addrs_at = 8;"),
        ("if (count < slots && tcp_info[", "if (0 && tcp_info["),
        ("memset(full, 0, FULL_INFO_ROOM + before * arrays);", ""),
        ("if (length == -EPROTO)\n\t\theader->num_subflows = UINT32_MAX;", ""),
        ("length != sizeof(value) || value < questions[index].least", "value < questions[index].least"),
        ("value < questions[index].least || value > questions[index].most", "value > questions[index].most"),
        ("value < questions[index].least || value > questions[index].most", "value < questions[index].least"),
        ("length == sizeof(struct kernel_sockaddr_in) && *family == AF_INET)", "*family == AF_INET)"),
    ),
    *of(
        "csrc/mptcp_sockopt.c",
        "lies",
        ("return result == -1 && errno > 0", "return errno > 0"),
        ("header->size_subflow_data != sizeof(*header) || count > MOST_SUBFLOWS", "count > MOST_SUBFLOWS"),
        ("header->size_arrays_user != slots || !is_mptcp_info(", "!is_mptcp_info("),
        ("if (!peer || failed != -ENOTCONN)", "if (!peer)"),
    ),
    *of(
        "csrc/mptcp_sockopt.c",
        "bounds",
        ("return info->mptcpi_flags != UNWRITTEN_FLAGS;", "return 1;"),
        ("if (living < 0)\n\t\treturn living;", ""),
    ),
    *of(
        "csrc/mptcp_sockopt.c",
        "fuzz",
        ("if (fd < 0)\n\t\treturn -EBADF;", ""),
    ),
    *of(
        "csrc/mptcp_sockopt.c",
        "sockopt abi",
        ("*length < 0 ? NULL : value, &left", "value, &left"),
    ),
    *of(
        "csrc/mptcp_sockopt.c",
        "fuzz",
        ("if (count > fit)\n\t\treturn 0;", "if (count > fit)\n\t\treturn length;"),
    ),
    *of(
        "csrc/mptcp_sockopt.c",
        "fuzz",
        ("if (count > slots)\n\t\treturn 0;", "if (count > slots)\n\t\treturn length;"),
    ),
    *of(
        "csrc/mptcp_sockopt.c",
        "sockopt abi",
        ("header->subflow_info = 0;\n", ""),
    ),
    *of(
        "csrc/mptcp_sockopt.c",
        "errors sockopt abi",
        (" || type != SOCK_STREAM", ""),
    ),
    *of(
        "csrc/mptcp_sockopt.c",
        "older_kernels",
        ("return error == EOPNOTSUPP;", "return 1;"),
    ),
    *of(
        "csrc/mptcp_sockopt.c",
        "errors older_kernels",
        ("if (living)\n\t\treturn REFUSED_OPTION;", ""),
    ),
    *of(
        "csrc/mptcp_sockopt.c",
        "errors sockopt",
        (
            "protocol == IPPROTO_MPTCP ? REFUSED_FALLBACK : REFUSED_TCP",
            "protocol != IPPROTO_MPTCP ? REFUSED_FALLBACK : REFUSED_TCP",
        ),
    ),
    *of(
        "csrc/mptcp_sockopt.c",
        "sampler_changes",
        ("if (*known == TOKEN_GONE)\n\t\treturn 1;", ""),
        ("return *known != token;", "return 0;"),
    ),
    *of(
        "csrc/mptcp_sockopt.c",
        "sampler_changes sampler",
        ("if (!token)\n\t\treturn 0;", ""),
    ),
    *of(
        "csrc/mptcp_sockopt.c",
        "sampler_changes sampler",
        ("if (filled < head)\n\t\t\tmemset(row + filled, 0, (size_t)(head - filled));", ""),
    ),
    *of(
        "csrc/mptcp_sockopt.c",
        "fuzz",
        ("filled = length < 0 || length > rows->scratch_size ? 0 :", "filled = length < 0 ? 0 :"),
    ),
    *of(
        "csrc/mptcp_sockopt.c",
        "errors sockopt abi",
        ("names->sa_family_remote = names->sa_family;\n", ""),
    ),
    *of(
        "csrc/mptcp_diag.c",
        "lies",
        ("return sent == (ssize_t)whole ? 0 : refused(sent);", "return 0;"),
        ("return failed == -EINTR ? 0 : failed;", "return failed;"),
        ("if (datagram.msg_flags & MSG_TRUNC)\n\t\treturn -ENOBUFS;", ""),
        ("if (length > MPTCP_DIAG_DATAGRAM)\n\t\treturn -EPROTO;", ""),
    ),
    *of(
        "csrc/mptcp_diag.c",
        "sock_diag_parser fuzz",
        (
            "attribute.nla_len < sizeof(attribute) || attribute.nla_len > left",
            "attribute.nla_len == 0 || attribute.nla_len > left",
        ),
        (
            "attribute.nla_len < sizeof(attribute) || attribute.nla_len > left",
            "attribute.nla_len < sizeof(attribute)",
        ),
        ("(attribute.nla_type & NLA_TYPE_MASK) == type", "attribute.nla_type == type"),
        ("(family == AF_INET || family == AF_INET6) && state > 0", "state > 0"),
        ("state > 0 && state <= MOST_STATE;", "state <= MOST_STATE;"),
        ("info_length < LEAST_MPTCP_INFO || info_length > MOST_STRUCT", "info_length > MOST_STRUCT"),
        ("if (info_length > MPTCP_INFO_ROOM)\n\t\tinfo_length = MPTCP_INFO_ROOM;", ""),
        ("if ((uint32_t)info_length != dump->info_length)\n\t\treturn -EPROTO;", ""),
        ("memset(record + msg + dump->info_length, 0, dump->stride - msg - dump->info_length);", ""),
        ("if (header.nlmsg_seq != dump->sequence)\n\t\t\tgoto next;", ""),
        ("if (header.nlmsg_flags & NLM_F_DUMP_INTR)\n\t\t\tdump->interrupted = 1;", ""),
        (
            "header.nlmsg_len < sizeof(header) || header.nlmsg_len > left",
            "header.nlmsg_len == 0 || header.nlmsg_len > left",
        ),
        ("header.nlmsg_len < sizeof(header) || header.nlmsg_len > left", "header.nlmsg_len < sizeof(header)"),
        ("return error >= -MOST_ERRNO ? error : -EPROTO;", "return error;"),
        (
            "return error == 0 && header.nlmsg_type == NLMSG_DONE ? 1 : -EPROTO;",
            "return error == 0 ? 1 : -EPROTO;",
        ),
        ("case NLMSG_OVERRUN:\n\t\t\treturn -ENOBUFS;", "case NLMSG_OVERRUN:\n\t\t\tbreak;"),
        ("if (sender.nl_pid != 0)\n\t\treturn 0;", ""),
        ("if (++dump->barren > MOST_BARREN)\n\t\t\t\treturn -EPROTO;", ""),
    ),
    *of(
        "csrc/mptcp_diag_tcp.c",
        "sock_diag_tcp diag_listeners",
        ("value && value_length == sizeof(name) && !memcmp(value, name, sizeof(name))", "value != NULL"),
    ),
    *of(
        "csrc/mptcp_diag_tcp.c",
        "sock_diag_tcp diag_listeners",
        ("found.privileged = !!find_attribute(", "!!find_attribute("),
    ),
)
