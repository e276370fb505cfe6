import { expect, test } from 'vitest'
import { defaultRegions } from './default-regions.ts'

const ams = { code: 'ams', hosts: 1, latitude: 52.3, longitude: 4.8 }
const iad = { code: 'iad', hosts: 1, latitude: 39, longitude: -77.5 }
const syd = { code: 'syd', hosts: 1, latitude: -33.9, longitude: 151.2 }

test('a first region with a single host is joined by the one nearest to it', () => {
  expect(defaultRegions([ams, syd, iad], true)).toEqual(['ams', 'iad'])
})

test('one region is enough where it has two hosts, where one machine is asked for, or where there is no other', () => {
  expect(defaultRegions([{ ...ams, hosts: 2 }, syd], true)).toEqual(['ams'])
  expect(defaultRegions([ams, syd], false)).toEqual(['ams'])
  expect(defaultRegions([ams], true)).toEqual(['ams'])
})

test('a region of unknown place comes last', () => {
  expect(
    defaultRegions([ams, { code: 'attic', hosts: 1, latitude: null, longitude: null }, syd], true),
  ).toEqual(['ams', 'syd'])
})
