/**
 * Every error that crosses between programs has one of these codes. *Yours*: the caller can mend it. *Ours*: Roost can.
 * The reference page of codes is made from this file.
 */
export const YOUR_ERRORS = {
  unauthorized: { status: 401, meaning: 'No token, or one that is unknown, revoked or expired.' },
  forbidden: {
    status: 403,
    meaning: 'The token is known, but its policy does not allow this action.',
  },
  not_found: { status: 404, meaning: 'There is no such app, machine, release or host.' },
  invalid: {
    status: 400,
    meaning: 'The request does not fit its schema; the message names the field.',
  },
  unsupported: {
    status: 422,
    meaning: 'The request asks for something that Roost does not do (yet); the message names it.',
  },
  name_taken: { status: 422, meaning: 'Another app has this name.' },
  conflict: {
    status: 409,
    meaning:
      'Something else is going on with this object: another release, a lease, a newer version.',
  },
  no_room: {
    status: 422,
    /** What the Machines API calls it. */
    as: 'insufficient_capacity',
    meaning: 'No host of the region has the memory or the cpus that were asked for.',
  },
  unknown_region: {
    status: 422,
    meaning: 'No host is in that region; the message lists the regions that there are.',
  },
  image_not_found: {
    status: 422,
    meaning: 'The registry has no such image, or does not show it to us.',
  },
  image_unusable: {
    status: 422,
    meaning: 'The image is for another architecture, or is no image.',
  },
  build_failed: {
    status: 422,
    meaning: 'The Dockerfile was built as far as it goes; the last lines of its output say why.',
  },
  precondition_failed: {
    status: 412,
    meaning: 'The machine is not in a state in which that can be done.',
  },
  not_offered: {
    status: 501,
    meaning:
      'Roost has no such resource of the Machines API; the message says why, or what does the same.',
  },
  version_mismatch: {
    status: 426,
    meaning: 'Server and command line are of versions that do not understand each other.',
  },
  too_many: {
    status: 429,
    meaning: 'A limit on how many there may be at once was reached; the message names it.',
  },
  timeout: {
    status: 408,
    meaning: 'What was waited for did not happen in the time that was given.',
  },
} as const

export const OUR_ERRORS = {
  internal: { status: 500, meaning: 'A fault in Roost. The request id leads to it in the log.' },
  unavailable: {
    status: 503,
    meaning: 'A part of Roost that is needed for this does not answer; the message says which.',
  },
  disk_full: {
    status: 507,
    meaning:
      'A file system of Roost is full; the message says which and how full. `roost doctor` says what takes room.',
  },
  host_unreachable: { status: 503, meaning: 'The host that owns this machine does not answer.' },
} as const

export const ERRORS = { ...YOUR_ERRORS, ...OUR_ERRORS }
export type ErrorCode = keyof typeof ERRORS
