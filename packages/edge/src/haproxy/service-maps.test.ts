import type { AppName, Route } from '@roost/core'
import { expect, test } from 'vitest'
import { optionsText, serviceMapsOf } from './service-maps.ts'

const route = (key: string, changes: Partial<Route>): Route => ({
  key,
  app: 'shop' as AppName,
  hostnames: [],
  forceHttps: false,
  concurrency: { type: 'requests', soft_limit: 20, hard_limit: null },
  targets: [],
  coming: [],
  ...changes,
})

test('ports lead to names, names to slots; 443 may be another port here', () => {
  const routes = [
    route('a', { hostnames: ['shop.roost.test'], http: { idle_timeout: 5 } }),
    route('b', { hostnames: ['tcp:9000'], listener: { kind: 'tcp', from: 9000, to: 9009 } }),
    route('c', {
      hostnames: ['raw:shop.roost.test'],
      listener: { kind: 'passthrough', from: 443, to: 443 },
    }),
    route('d', { listener: { kind: 'udp', from: 53, to: 53 } }),
  ]
  const slots: Record<string, string> = { a: 'o0', b: 't0', c: 't1' }
  const maps = serviceMapsOf(routes, ({ key }) => slots[key], 18_443)
  expect([...maps.names]).toEqual([
    ['tcp:9000', 't0'],
    ['raw:shop.roost.test', 't1'],
  ])
  expect([...maps.ports]).toEqual([
    ['9000:9009', '9000'],
    ['443', '443'],
    ['18443', '443'],
  ])
  expect([...maps.options]).toEqual([['o0', '5000|0|']])
})

test('options are one word, whatever the app wrote', () => {
  const headers = { 'x-a': 'b c;d\\e', 'set-cookie': ['a=1', 'b=2'], server: false as const }
  expect(optionsText({ response: { headers, pristine: true } })).toBe(
    '0|1|s:x-a:b%20c%3bd%5ce,s:set-cookie:a%3d1,a:set-cookie:b%3d2,d:server',
  )
})
