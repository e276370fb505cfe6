import type { ClientPlace, HostId, RegionCode, Zone } from '@roost/core'
import { decode, encode, type OptAnswer, type Packet } from 'dns-packet'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { answerQuery, type QueryContext } from './answer-query.ts'

const zone: Zone = {
  domain: 'roost.test',
  serial: 3,
  region: 'ams' as RegionCode,
  hasApp: (name) => name === 'shop',
  challengeTexts: () => ['agreed'],
  edges: ['ams', 'iad'].map((region, n) => ({
    host: region as HostId,
    name: region,
    region: region as RegionCode,
    publicAddress: `198.18.${n + 1}.1`,
    alive: true,
  })),
  roundTripMs: () => null,
}
const located: string[] = []
const context: QueryContext = {
  zone,
  locate: (address, prefixLength): ClientPlace => {
    located.push(`${address}/${prefixLength}`)
    const region = address.startsWith('198.18.2.') ? 'iad' : 'ams'
    return { kind: 'region', region: region as RegionCode }
  },
  source: '198.18.1.100',
  transport: 'udp',
}
const opt = (options: OptAnswer['options'], size = 1232): OptAnswer => ({
  type: 'OPT',
  name: '.',
  udpPayloadSize: size,
  extendedRcode: 0,
  ednsVersion: 0,
  flags: 0,
  flag_do: false,
  options,
})
const subnet = (ip: string, sourcePrefixLength: number, family = 1) =>
  opt([{ code: 8, family, sourcePrefixLength, ip }])

type Decoded = ReturnType<typeof decode> & { rcode: string }
function ask(packet: Packet, changes: Partial<QueryContext> = {}): Decoded {
  const reply = answerQuery(encode({ type: 'query', id: 9, ...packet }), { ...context, ...changes })
  if (reply === null) throw new Error('no answer')
  return decode(reply) as Decoded
}
const shop = { type: 'A', name: 'shop.roost.test' } as const

describe('answerQuery', () => {
  test('the nearest edge by the address of the asker, or of the subnet that it asks for', () => {
    expect(ask({ questions: [shop] })).toMatchObject({
      id: 9,
      rcode: 'NOERROR',
      flag_aa: true,
      flag_ra: false,
      questions: [shop],
      answers: [{ name: 'shop.roost.test', type: 'A', ttl: 5, data: '198.18.1.1' }],
      additionals: [],
    })
    const reply = ask({ questions: [shop], additionals: [subnet('198.18.2.0', 24)] })
    expect(reply.answers?.[0]).toMatchObject({ data: '198.18.2.1' })
    expect(reply.additionals?.[0]).toMatchObject({
      options: [{ ip: '198.18.2.0', sourcePrefixLength: 24, scopePrefixLength: 24 }],
    })
    expect(located.at(-1)).toBe('198.18.2.0/24')
  })

  test('a subnet of length 0 asks not to be looked at, one that is nonsense is not', () => {
    ask({ questions: [shop], additionals: [subnet('0.0.0.0', 0)] })
    expect(located.at(-1)).toBe('198.18.1.100/32')
    ask({ questions: [shop], additionals: [subnet('2001:db8::', 48, 2)] })
    expect(located.at(-1)).toBe('2001:db8::/48')
  })

  test('what there is not', () => {
    expect(ask({ questions: [{ type: 'A', name: 'no.roost.test' }] })).toMatchObject({
      rcode: 'NXDOMAIN',
      flag_aa: true,
      authorities: [{ type: 'SOA', ttl: 5 }],
    })
    for (const type of ['AAAA', 'MX', 'UNKNOWN_65'] as const)
      expect(ask({ questions: [{ type: type as 'A', name: 'shop.roost.test' }] })).toMatchObject({
        rcode: 'NOERROR',
        answers: [],
        authorities: [{ type: 'SOA' }],
      })
    expect(ask({ questions: [{ type: 'A', name: 'example.com' }] })).toMatchObject({
      rcode: 'REFUSED',
      flag_aa: false,
      authorities: [],
    })
    expect(ask({ questions: [{ ...shop, class: 'CH' }] }).rcode).toBe('REFUSED')
    expect(ask({ questions: [shop, shop] }).rcode).toBe('FORMERR')
    expect(ask({ questions: [] }).rcode).toBe('FORMERR')
    expect(ask({ questions: [shop], flags: 0x2000 }).rcode).toBe('NOTIMP')
    const version = ask({ questions: [shop], additionals: [{ ...opt([]), ednsVersion: 1 }] })
    expect(version.additionals?.[0]).toMatchObject({ extendedRcode: 1 })
  })

  test('before anything is known, it is said that nothing is', () => {
    expect(ask({ questions: [shop] }, { zone: null })).toMatchObject({ rcode: 'SERVFAIL' })
  })

  test('recursion is not offered, the wish for it is echoed, letter case too', () => {
    const reply = ask({ questions: [{ type: 'A', name: 'ShOp.RooST.test' }], flags: 0x100 })
    expect(reply).toMatchObject({ flag_rd: true, flag_ra: false })
    expect(reply.answers?.[0]?.name).toBe('ShOp.RooST.test')
  })

  test('an answer that does not fit is cut short over UDP and whole over TCP', () => {
    const edges = Array.from({ length: 60 }, (_, n) => ({
      host: `h${n}` as HostId,
      name: `a-host-with-a-long-name-${n}`,
      region: 'ams' as RegionCode,
      publicAddress: '198.18.1.1',
      alive: true,
    }))
    const ns = { questions: [{ type: 'NS', name: 'roost.test' } as const] }
    const many = { zone: { ...zone, edges } }
    expect(ask(ns, many)).toMatchObject({ flag_tc: true, answers: [] })
    expect(ask({ ...ns, additionals: [opt([], 65_000)] }, many).flag_tc).toBe(true)
    const whole = ask(ns, { ...many, transport: 'tcp' })
    expect([whole.answers?.length, whole.additionals?.length]).toEqual([60, 60])
  })

  test('garbage and answers get no answer, and nothing throws', () => {
    expect(answerQuery(Buffer.from('hello'), context)).toBeNull()
    expect(answerQuery(encode({ type: 'response', id: 1, questions: [shop] }), context)).toBeNull()
    const good = encode({
      type: 'query',
      id: 9,
      questions: [shop],
      additionals: [subnet('1.2.3.0', 24)],
    })
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255))), (changes) => {
        const message = Buffer.from(good)
        for (const [at, value] of changes) message[at] = value
        answerQuery(message, context)
        answerQuery(message.subarray(0, changes[0]?.[0] ?? 0), context)
      }),
    )
  })
})
