import type { MachineId } from '@roost/core'
import { expect, test } from 'vitest'
import { parseMap, parseServers } from './observed-proxy.ts'

const HEADER = '# pxname,svname,scur,slim,stot,status,lastchg,addr'

test('servers are read by the names of the columns', () => {
  const csv = `${HEADER}
s0,00000000000001.a0,3,25,10,UP 1/2,7,10.210.4.2:8080
s0,00000000000002.b1,0,,0,MAINT,1,10.210.8.2:8080
s1,00000000000003.a0,0,,0,DOWN,4,10.210.4.3:80
s1,foreign,0,,0,no check,4,10.210.4.3:80

`
  const slots = parseServers(csv)
  expect(slots.get('s0')?.[0]).toEqual({
    name: '00000000000001.a0',
    entry: { machine: '00000000000001' as MachineId, role: 'active', number: 0 },
    endpoint: '10.210.4.2:8080',
    maxConnections: 25,
    maint: false,
    up: true,
    checking: true,
    sessions: 3,
    sessionsTotal: 10,
    secondsInState: 7,
  })
  expect(slots.get('s0')?.[1]).toMatchObject({ maint: true, up: false, maxConnections: 0 })
  expect(slots.get('s1')?.[0]).toMatchObject({ maint: false, up: false })
  expect(slots.get('s1')?.[1]).toMatchObject({ entry: null, up: true, checking: false })
})

test('a text with commas moves no column', () => {
  const csv = `# pxname,svname,scur,slim,stot,status,lastchg,last_chk,addr
s0,00000000000001.a0,1,,5,DOWN,3,"Detected 1 errors, last one was: ""L4"", really",10.210.4.2:8080
s0,00000000000002.a0,0,,5,UP,3,"",10.210.4.3:8080
`
  expect(
    parseServers(csv)
      .get('s0')
      ?.map(({ endpoint }) => endpoint),
  ).toEqual(['10.210.4.2:8080', '10.210.4.3:8080'])
})

test('what is no statistics is an error and not an empty HAProxy', () => {
  expect(() => parseServers('Permission denied')).toThrow('no statistics')
  expect(() => parseServers('# pxname,svname')).toThrow('without scur')
})

test('maps are lines of pointer, key and value', () => {
  expect(parseMap('0x55 a.roost.test s0\n0x56 b.roost.test empty\n\n')).toEqual(
    new Map([
      ['a.roost.test', 's0'],
      ['b.roost.test', 'empty'],
    ]),
  )
})
