import { describe, expect, test } from 'vitest'
import { countsOf, wantedByGroup, wantedCounts } from './counts.ts'

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

describe('process groups', () => {
  const machine = (group: string, region: string) => ({
    ...{ id: '', host: '', image: '', checks: [], private_ip: '', updated_at: '', reason: null },
    ...{ state: 'started', group, region },
  })
  const status = {
    machines: [machine('web', 'ams'), machine('web', 'iad'), machine('jobs', 'ams')],
  }
  const wanted = (said: string[], options: { region?: string; group?: string } = {}) =>
    wantedByGroup(said, options, status, ['web', 'jobs', 'mail'])

  test('have numbers of their own', () => {
    expect(wanted(['3'])).toEqual({ web: { ams: 2, iad: 1 } })
    expect(wanted(['iad=2'])).toEqual({ web: { ams: 1, iad: 2 } })
    expect(wanted(['web=4', 'jobs=0'])).toEqual({ web: { ams: 2, iad: 2 }, jobs: { ams: 0 } })
    expect(wanted(['jobs=2'], { region: 'syd' })).toEqual({ jobs: { ams: 1, syd: 2 } })
    expect(wanted(['syd=1'], { group: 'jobs' })).toEqual({ jobs: { ams: 1, syd: 1 } })
    // One that has no machine yet comes where the app is.
    expect(wanted(['mail=1'])).toEqual({ mail: { ams: 1 } })
  })

  test.each<[string[], { group?: string }, RegExp]>([
    [['web=1', 'ams=1'], {}, /either GROUP=NUMBER/],
    [['web=1'], { group: 'jobs' }, /--process-group goes with/],
    [['1'], { group: 'job' }, /no process group "job"; there are web, jobs, mail/],
    [['web=x'], {}, /no number/],
  ])('%j is refused', (said, options, message) => {
    expect(() => wanted(said, options)).toThrow(message)
  })
})
