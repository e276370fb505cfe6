import { answerFor, type ClientPlace, type Zone, type ZoneRecord } from '@roost/core'
import {
  type Answer,
  AUTHORITATIVE_ANSWER,
  type DecodedPacket,
  decode,
  encode,
  type OptAnswer,
  type Packet,
  RECURSION_DESIRED,
  TRUNCATED_RESPONSE,
} from 'dns-packet'

export interface QueryContext {
  /** null: nothing was heard yet of what there is. */
  readonly zone: Zone | null
  readonly locate: (address: string, prefixLength: number) => ClientPlace
  /** Who sent the packet. */
  readonly source: string
  /** Bytes that an answer may have: over TCP 65,535. */
  readonly transport: 'udp' | 'tcp'
}

const FORMAT_ERROR = 1
const SERVER_FAILURE = 2
const NO_SUCH_NAME = 3
const NOT_IMPLEMENTED = 4
const REFUSED = 5
/** What goes through everywhere unfragmented. */
const UDP_BYTES_MAX = 1232
const UDP_BYTES_WITHOUT_EDNS = 512
const HEADER_BYTES = 12

interface ClientSubnet {
  readonly family: number
  readonly sourcePrefixLength: number
  readonly ip: string
}

/** The answer to one packet; null for what is no question: it gets no answer, so that nobody is hit by reflections of garbage. */
export function answerQuery(message: Buffer, context: QueryContext): Buffer | null {
  if (message.length < HEADER_BYTES || (message.readUInt16BE(2) & 0x8000) !== 0) return null
  let query: DecodedPacket & { opcode?: string }
  try {
    query = decode(message)
  } catch {
    return null
  }
  const id = query.id ?? 0
  const [question, ...more] = query.questions ?? []
  const asked = query.flags ?? 0
  const base: Packet = { type: 'response', id, questions: question ? [question] : [] }
  const flags = (code: number, authoritative = false) =>
    (asked & (0x7800 | RECURSION_DESIRED)) | (authoritative ? AUTHORITATIVE_ANSWER : 0) | code

  if (query.opcode !== undefined && query.opcode !== 'QUERY')
    return write({ ...base, questions: [], flags: flags(NOT_IMPLEMENTED) })
  if (question === undefined || more.length > 0)
    return write({ ...base, questions: [], flags: flags(FORMAT_ERROR) })

  const edns = query.additionals?.find((record): record is OptAnswer => record.type === 'OPT')
  if (edns !== undefined && edns.ednsVersion > 0)
    return write({ ...base, flags: flags(0), additionals: [optRecord(1, null)] })
  const subnet = edns === undefined ? null : clientSubnet(edns)
  const opt = edns === undefined ? [] : [optRecord(0, subnet)]
  if ((question.class ?? 'IN') !== 'IN' && question.class !== 'ANY')
    return write({ ...base, flags: flags(REFUSED), additionals: opt })

  if (context.zone === null)
    return write({ ...base, flags: flags(SERVER_FAILURE), additionals: opt })

  const address = subnet?.ip ?? context.source
  const prefixLength = subnet?.sourcePrefixLength ?? (address.includes(':') ? 128 : 32)
  const answer = answerFor(
    context.zone,
    { name: question.name, type: question.type },
    { place: context.locate(address, prefixLength), key: address },
  )
  const code = answer.kind === 'refused' ? REFUSED : answer.kind === 'unknown' ? NO_SUCH_NAME : 0
  const reply: Packet = {
    ...base,
    flags: flags(code, answer.kind !== 'refused'),
    answers: answer.answers.map(toAnswer),
    authorities: answer.authorities.map(toAnswer),
    additionals: [...answer.additionals.map(toAnswer), ...opt],
  }
  const bytesMax =
    context.transport === 'tcp'
      ? 65_535
      : edns === undefined
        ? UDP_BYTES_WITHOUT_EDNS
        : Math.max(UDP_BYTES_WITHOUT_EDNS, Math.min(UDP_BYTES_MAX, edns.udpPayloadSize))
  const whole = write(reply)
  if (whole === null || whole.length <= bytesMax) return whole
  const withoutExtra = write({ ...reply, additionals: opt })
  if (withoutExtra !== null && withoutExtra.length <= bytesMax) return withoutExtra
  return write({ ...base, flags: (reply.flags ?? 0) | TRUNCATED_RESPONSE, additionals: opt })
}

function write(packet: Packet): Buffer | null {
  try {
    return encode(packet)
  } catch {
    // A name that can be read and not be written: not one of ours.
    return null
  }
}

/** RFC 7871: a source prefix of 0 means that the client wants its address to play no part. */
function clientSubnet(edns: OptAnswer): ClientSubnet | null {
  for (const option of edns.options) {
    const { code, family, sourcePrefixLength, ip } = option as Partial<ClientSubnet> & {
      code: number
    }
    if (code !== 8 || ip === undefined || sourcePrefixLength === undefined) continue
    if ((family === 1 && sourcePrefixLength <= 32) || (family === 2 && sourcePrefixLength <= 128))
      return sourcePrefixLength === 0 ? null : { family, sourcePrefixLength, ip }
  }
  return null
}

/** The scope is what was asked with: a wider one would be kept for networks that another record may say more about. */
function optRecord(extendedRcode: number, subnet: ClientSubnet | null): Answer {
  return {
    type: 'OPT',
    name: '.',
    udpPayloadSize: UDP_BYTES_MAX,
    extendedRcode,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options:
      subnet === null ? [] : [{ code: 8, ...subnet, scopePrefixLength: subnet.sourcePrefixLength }],
  }
}

function toAnswer(record: ZoneRecord): Answer {
  const { name, ttl } = record
  switch (record.type) {
    case 'A':
      return { name, ttl, type: 'A', data: record.address }
    case 'NS':
      return { name, ttl, type: 'NS', data: record.target }
    case 'TXT':
      return { name, ttl, type: 'TXT', data: record.text }
    case 'SOA':
      return {
        name,
        ttl,
        type: 'SOA',
        data: {
          mname: record.primary,
          rname: record.mailbox,
          serial: record.serial,
          refresh: record.refresh,
          retry: record.retry,
          expire: record.expire,
          minimum: record.minimum,
        },
      }
  }
}
