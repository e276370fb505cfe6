import { expect, test } from 'vitest'
import { fileContents } from './file-contents.ts'

test('a file has what its configuration or a secret says, byte for byte', () => {
  const bytes = Buffer.from([0, 255, 10, 13])
  const files = [
    { guest_path: '/etc/plain', raw_value: bytes.toString('base64') },
    { guest_path: '/etc/key', secret_name: 'KEY' },
  ]
  const found = fileContents(files, { KEY: Buffer.from('secret\n').toString('base64') })
  expect(found.map(({ content }) => content)).toEqual([bytes, Buffer.from('secret\n')])
})

test('a secret that is not there is named, and may still come', () => {
  expect(() => fileContents([{ guest_path: '/etc/key', secret_name: 'KEY' }], {})).toThrow(
    expect.objectContaining({ retry: 'later', message: 'write /etc/key' }),
  )
})
