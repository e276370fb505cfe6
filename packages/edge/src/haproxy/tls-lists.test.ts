import type { AppName, Route, TlsOptions } from '@roost/core'
import { expect, test } from 'vitest'
import { ownTlsListsOf, parseTlsList, tlsLine, tlsListsOf } from './tls-lists.ts'

const route = (hostnames: string[], tls: TlsOptions, kind?: 'https' | 'tls'): Route => ({
  key: hostnames.join(),
  app: 'shop' as AppName,
  hostnames,
  forceHttps: false,
  concurrency: { type: 'requests', soft_limit: 20, hard_limit: null },
  targets: [],
  coming: [],
  tls,
  ...(kind === undefined ? {} : { listener: { kind, from: 8443, to: 8443 } }),
})

test('options go with the names that the edge has a certificate for', () => {
  const lists = tlsListsOf(
    [
      route(['shop.roost.test', 'shop.example.com'], { versions: ['TLSv1.3', 'TLSv1.2'] }),
      route(['blog.roost.test:8443'], { alpn: ['h2', 'http/1.1'] }, 'https'),
      route(['tls:mqtt.roost.test:8883', 'tls:*:8883'], { alpn: ['mqtt'] }, 'tls'),
      route(['idle.roost.test'], { default_self_signed: true }),
    ],
    'roost.test',
  )
  expect([...lists.https]).toEqual([
    ['shop.roost.test', 'ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.3'],
    ['blog.roost.test', 'alpn h2,http/1.1'],
  ])
  expect([...lists.tls]).toEqual([['mqtt.roost.test', 'alpn mqtt']])
})

test('of names of people’s own, too, whether HTTP is inside or not', () => {
  const lists = ownTlsListsOf(
    [
      route(['shop.roost.test', 'shop.example.com', '*.example.com'], { alpn: ['http/1.1'] }),
      route(
        ['tls:shop.roost.test:8883', 'tls:shop.example.com:8883', 'tls:*:8883'],
        { versions: ['TLSv1.3'] },
        'tls',
      ),
      route(['plain.example.org'], {}),
    ],
    'roost.test',
  )
  expect([...lists.https]).toEqual([
    ['shop.example.com', 'alpn http/1.1'],
    ['*.example.com', 'alpn http/1.1'],
  ])
  expect([...lists.tls]).toEqual([['shop.example.com', 'ssl-min-ver TLSv1.3 ssl-max-ver TLSv1.3']])
})

test('what HAProxy shows is read', () => {
  const text =
    '# /run/list\n/data/a.pem:3 [alpn h2  ssl-min-ver TLSv1.3] shop.roost.test\n/data/_.b.pem:4 *.b.c\n\n'
  const [first, second] = parseTlsList(text)
  expect(first).toEqual({
    entry: '/data/a.pem:3',
    file: '/data/a.pem',
    host: 'shop.roost.test',
    options: 'alpn h2 ssl-min-ver TLSv1.3',
  })
  expect(second).toMatchObject({ entry: '/data/_.b.pem:4', host: '*.b.c', options: '' })
  expect(tlsLine('/data/_.b.pem', '*.b.c', '')).toBe('/data/_.b.pem *.b.c')
})
