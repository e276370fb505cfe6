import { expect, test } from 'vitest'
import { countsOf, wantedCounts } from './counts.ts'

test.each<[string[], string | undefined, Record<string, number>, Record<string, number>]>([
  [['ams=2', 'iad=1'], undefined, { ams: 1, syd: 1 }, { ams: 2, iad: 1, syd: 1 }],
  [['3'], 'syd', { ams: 1 }, { ams: 1, syd: 3 }],
  [['3'], undefined, { ams: 1 }, { ams: 3 }],
  [['5'], undefined, { ams: 1, iad: 1, syd: 1 }, { ams: 2, iad: 2, syd: 1 }],
  [['2'], undefined, { ams: 1, iad: 3 }, { iad: 1, ams: 1 }],
  [['0'], undefined, { ams: 1, iad: 1 }, { ams: 0, iad: 0 }],
  [['iad=0'], undefined, { ams: 1, iad: 1 }, { ams: 1, iad: 0 }],
])('%j with region %s from %j', (said, region, now, wanted) => {
  expect(wantedCounts(said, region, now)).toEqual(wanted)
})

test.each<[string[], string | undefined, RegExp]>([
  [['x'], undefined, /"x" is no number of machines/],
  [['-1'], undefined, /no number/],
  [['501'], undefined, /0 to 500/],
  [['ams='], undefined, /no number/],
  [['AMS=1'], undefined, /no region/],
  [['2', 'ams=1'], undefined, /either one number/],
  [['ams=1'], 'iad', /--region goes with a number/],
  [['2'], undefined, /say in which region/],
])('%j is refused', (said, region, message) => {
  expect(() => wantedCounts(said, region, {})).toThrow(message)
})

test('machines that go are not counted', () => {
  const machine = {
    id: '',
    group: 'app',
    host: '',
    image: '',
    checks: [],
    private_ip: '',
    updated_at: '',
    reason: null,
  }
  const machines = [
    { ...machine, region: 'ams', state: 'started' },
    { ...machine, region: 'ams', state: 'destroying' },
    { ...machine, region: 'iad', state: 'stopped' },
  ]
  expect(countsOf({ machines })).toEqual({ ams: 1, iad: 1 })
})
